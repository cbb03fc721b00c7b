package emulator.clients;

import com.google.api.gax.core.NoCredentialsProvider;
import com.google.api.gax.grpc.GrpcTransportChannel;
import com.google.api.gax.grpc.InstantiatingGrpcChannelProvider;
import com.google.api.gax.rpc.ClientSettings;
import com.google.api.gax.rpc.FixedTransportChannelProvider;
import com.google.api.gax.rpc.UnaryCallSettings;
import com.google.cloud.NoCredentials;
import com.google.cloud.storage.Storage;
import com.google.cloud.storage.StorageOptions;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;

/** The running emulator, as the environment names it, and the ways for a client to reach it. */
final class Emulator {
  static final String LOCATION = "us-central1";
  static final String PROJECT = variable("EMULATOR_PROJECT");
  static final String BUCKET = variable("EMULATOR_BUCKET");

  private Emulator() {}

  /** One way for a gRPC client to reach the emulator. */
  enum Transport {
    /** No credentials, nothing in the environment. */
    PLAIN_TEXT {
      @Override
      <B extends ClientSettings.Builder<?, B>> B point(B settings) {
        return settings
            .setTransportChannelProvider(
                InstantiatingGrpcChannelProvider.newBuilder()
                    .setEndpoint(variable("EMULATOR_GRPC"))
                    .setChannelConfigurator(ManagedChannelBuilder::usePlaintext)
                    .build())
            .setCredentialsProvider(NoCredentialsProvider.create());
      }
    },

    /**
     * Only the endpoint changes, as in the documentation's sample: the JVM's trust store holds the
     * emulator's CA, and GOOGLE_APPLICATION_CREDENTIALS names the account.
     */
    TLS_BY_TRUST_STORE {
      @Override
      <B extends ClientSettings.Builder<?, B>> B point(B settings) {
        return settings.setEndpoint(variable("EMULATOR_TLS"));
      }
    },

    /** The program names the CA; no trust store and no credentials. */
    TLS_BY_PROGRAM {
      @Override
      <B extends ClientSettings.Builder<?, B>> B point(B settings) {
        return settings
            .setTransportChannelProvider(
                FixedTransportChannelProvider.create(GrpcTransportChannel.create(TlsChannel.SHARED)))
            .setCredentialsProvider(NoCredentialsProvider.create());
      }
    };

    abstract <B extends ClientSettings.Builder<?, B>> B point(B settings);
  }

  /** A client does not close a channel that was given to it, so all tests use one; it ends with the JVM. */
  private static final class TlsChannel {
    static final ManagedChannel SHARED = open();

    private static ManagedChannel open() {
      File roots = new File(variable("SSL_CERT_FILE"));
      try {
        var trusting = TlsChannelCredentials.newBuilder().trustManager(roots).build();
        return Grpc.newChannelBuilder(variable("EMULATOR_TLS"), trusting).build();
      } catch (IOException problem) {
        throw new UncheckedIOException(problem);
      }
    }
  }

  /**
   * Gives calls a minute. The clients' own five seconds do for a program, but the tests must also
   * pass on a machine that is busy with other things.
   */
  static Void beingPatient(UnaryCallSettings.Builder<?, ?> call) {
    call.setSimpleTimeoutNoRetriesDuration(Duration.ofMinutes(1));
    return null;
  }

  static String variable(String name) {
    String value = System.getenv(name);
    if (value == null || value.isEmpty()) {
      throw new IllegalStateException(name + " is not set; `make test-clients` sets it");
    }
    return value;
  }

  /** The URI of an object of the suite's bucket. */
  static String inBucket(String object) {
    return "gs://" + BUCKET + "/" + object;
  }

  /** The URI below which a test's jobs write. */
  static String outputOf(String test) {
    return inBucket("out/java/" + test);
  }

  static Storage storage() {
    return StorageOptions.newBuilder()
        .setHost(variable("EMULATOR_HTTP"))
        .setProjectId(PROJECT)
        .setCredentials(NoCredentials.getInstance())
        .build()
        .getService();
  }
}

package example;

import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.api.gax.core.NoCredentialsProvider;
import com.google.api.gax.rpc.TransportChannelProvider;
import com.google.cloud.aiplatform.v1.BatchPredictionJob;
import com.google.cloud.aiplatform.v1.GcsDestination;
import com.google.cloud.aiplatform.v1.GcsSource;
import com.google.cloud.aiplatform.v1.JobServiceClient;
import com.google.cloud.aiplatform.v1.JobServiceSettings;
import com.google.cloud.aiplatform.v1.JobState;
import io.grpc.ManagedChannelBuilder;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import org.junit.jupiter.api.Test;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.wait.strategy.Wait;
import org.testcontainers.junit.jupiter.Container;
import org.testcontainers.junit.jupiter.Testcontainers;

/** A job against the emulator's image, over gRPC in plain text. Run it with {@code mvn test}; it needs Docker. */
@Testcontainers
class BatchPredictionTest {
  private static final String PARENT = "projects/my-project/locations/us-central1";
  private static final int REST = 8080;
  private static final int GRPC = 8081;

  /** With this pace a GET of a job is answered when the job has ended. */
  @Container
  private static final GenericContainer<?> EMULATOR =
      new GenericContainer<>(System.getenv().getOrDefault("EMULATOR_IMAGE", "vertex-batch-emulator:slim"))
          .withExposedPorts(REST, GRPC)
          .withEnv("VERTEX_EMULATOR_PACE", "immediate")
          .waitingFor(Wait.forHttp("/_emulator/ready").forPort(REST));

  private final HttpClient http = HttpClient.newHttpClient();

  @Test
  void predictionsComeBack() throws Exception {
    post("/storage/v1/b?project=my-project", "{\"name\": \"my-bucket\"}");
    post(
        "/upload/storage/v1/b/my-bucket/o?uploadType=media&name=instances.jsonl",
        """
        {"content": "gs://my-bucket/cat.mp4", "mimeType": "video/mp4", "timeSegmentStart": "0s", "timeSegmentEnd": "Infinity"}
        """);
    post(
        "/_emulator/canned",
        """
        {"parent": "%s", "modelId": "pets", "objective": "object_tracking", "lines": [{"video": "*", "prediction": []}]}
        """
            .formatted(PARENT));

    try (JobServiceClient jobs = JobServiceClient.create(settings())) {
      BatchPredictionJob job =
          jobs.createBatchPredictionJob(
              PARENT,
              BatchPredictionJob.newBuilder()
                  .setDisplayName("with Testcontainers")
                  .setModel(PARENT + "/models/pets")
                  .setInputConfig(
                      BatchPredictionJob.InputConfig.newBuilder()
                          .setInstancesFormat("jsonl")
                          .setGcsSource(GcsSource.newBuilder().addUris("gs://my-bucket/instances.jsonl")))
                  .setOutputConfig(
                      BatchPredictionJob.OutputConfig.newBuilder()
                          .setPredictionsFormat("jsonl")
                          .setGcsDestination(
                              GcsDestination.newBuilder().setOutputUriPrefix("gs://my-bucket/output")))
                  .build());

      BatchPredictionJob done = jobs.getBatchPredictionJob(job.getName());

      assertEquals(JobState.JOB_STATE_SUCCEEDED, done.getState());
      assertEquals(1, done.getCompletionStats().getSuccessfulCount());
    }
  }

  private static JobServiceSettings settings() throws Exception {
    TransportChannelProvider plainText =
        JobServiceSettings.defaultGrpcTransportProviderBuilder()
            .setEndpoint(EMULATOR.getHost() + ":" + EMULATOR.getMappedPort(GRPC))
            .setChannelConfigurator(ManagedChannelBuilder::usePlaintext)
            .build();
    return JobServiceSettings.newBuilder()
        .setTransportChannelProvider(plainText)
        .setCredentialsProvider(NoCredentialsProvider.create())
        .build();
  }

  private void post(String path, String body) throws Exception {
    URI uri = URI.create("http://" + EMULATOR.getHost() + ":" + EMULATOR.getMappedPort(REST) + path);
    HttpRequest request =
        HttpRequest.newBuilder(uri)
            .header("Content-Type", "application/json")
            .POST(BodyPublishers.ofString(body))
            .build();
    assertEquals(200, http.send(request, BodyHandlers.ofString()).statusCode());
  }
}

package emulator.clients;

import static emulator.clients.Emulator.BUCKET;
import static emulator.clients.Emulator.LOCATION;
import static emulator.clients.Emulator.PROJECT;
import static java.util.concurrent.TimeUnit.SECONDS;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.api.gax.rpc.InvalidArgumentException;
import com.google.api.gax.rpc.NotFoundException;
import com.google.cloud.aiplatform.v1.ListModelsRequest;
import com.google.cloud.aiplatform.v1.LocationName;
import com.google.cloud.aiplatform.v1.Model;
import com.google.cloud.aiplatform.v1.ModelName;
import com.google.cloud.aiplatform.v1.ModelServiceClient;
import com.google.cloud.aiplatform.v1.ModelServiceSettings;
import com.google.cloud.storage.BlobInfo;
import com.google.cloud.storage.Storage;
import emulator.clients.Emulator.Transport;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.EnumSource;

@ParameterizedClass
@EnumSource(Transport.class)
@Timeout(value = 300, unit = SECONDS)
class ModelServiceTest {
  private static final LocationName PARENT = LocationName.of(PROJECT, LOCATION);

  /** A model that comes with the emulator, seen from the folder of pom.xml, where Maven runs the tests. */
  private static final Path BUNDLED = Path.of("../../../models/video-object-tracking");

  private final Transport transport;
  private ModelServiceClient models;

  ModelServiceTest(Transport transport) {
    this.transport = transport;
  }

  @BeforeEach
  void connect() throws IOException {
    ModelServiceSettings.Builder settings = transport.point(ModelServiceSettings.newBuilder());
    settings.applyToAllUnaryMethods(Emulator::beingPatient);
    models = ModelServiceClient.create(settings.build());
  }

  @AfterEach
  void disconnect() {
    models.close();
  }

  @Test
  void getAndList() {
    Model model = models.getModel(ModelName.of(PROJECT, LOCATION, "video-object-tracking"));
    assertEquals("video-object-tracking", model.getDisplayName());
    assertFalse(model.getVersionId().isEmpty());

    var found =
        models.listModels(
            ListModelsRequest.newBuilder()
                .setParent(PARENT.toString())
                .setFilter("display_name=\"video-action-recognition\"")
                .build());
    List<String> names =
        StreamSupport.stream(found.iterateAll().spliterator(), false)
            .map(Model::getDisplayName)
            .toList();
    assertEquals(List.of("video-action-recognition"), names);
  }

  @Test
  void unknownModelIsNotFound() {
    ModelName name = ModelName.of(PROJECT, LOCATION, "4711");
    NotFoundException problem =
        assertThrows(NotFoundException.class, () -> models.getModel(name));
    assertTrue(problem.getMessage().contains("/models/4711."), problem::getMessage);
  }

  @Test
  void uploadAndDelete() throws Exception {
    String folder = "models/java-" + transport;
    try (Storage storage = Emulator.storage()) {
      for (String file : List.of("model.toml", "model.onnx", "labels.txt")) {
        BlobInfo blob = BlobInfo.newBuilder(BUCKET, folder + "/" + file).build();
        storage.create(blob, Files.readAllBytes(BUNDLED.resolve(file)));
      }
    }
    Model model =
        Model.newBuilder()
            .setDisplayName("from Java")
            .setArtifactUri(Emulator.inBucket(folder))
            .build();
    var answer = models.uploadModelAsync(PARENT, model).get(300, SECONDS);
    String name = answer.getModel();
    assertEquals("1", answer.getModelVersionId());
    Model uploaded = models.getModel(name);
    assertEquals("from Java", uploaded.getDisplayName());
    assertEquals(Emulator.inBucket(folder), uploaded.getArtifactUri());

    models.deleteModelAsync(name).get(300, SECONDS);
    assertThrows(NotFoundException.class, () -> models.getModel(name));
  }

  @Test
  void uploadWithoutFilesIsInvalid() {
    Model model = Model.newBuilder().setDisplayName("no files").build();
    ExecutionException problem =
        assertThrows(
            ExecutionException.class,
            () -> models.uploadModelAsync(PARENT, model).get(300, SECONDS));
    assertInstanceOf(InvalidArgumentException.class, problem.getCause());
  }
}

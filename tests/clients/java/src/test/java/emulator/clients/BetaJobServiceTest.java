package emulator.clients;

import static emulator.clients.Emulator.LOCATION;
import static emulator.clients.Emulator.PROJECT;
import static java.util.concurrent.TimeUnit.SECONDS;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import com.google.api.gax.rpc.InvalidArgumentException;
import com.google.api.gax.rpc.NotFoundException;
import com.google.cloud.aiplatform.util.ValueConverter;
import com.google.cloud.aiplatform.v1beta1.BatchPredictionJob;
import com.google.cloud.aiplatform.v1beta1.BatchPredictionJobName;
import com.google.cloud.aiplatform.v1beta1.GcsDestination;
import com.google.cloud.aiplatform.v1beta1.GcsSource;
import com.google.cloud.aiplatform.v1beta1.JobServiceClient;
import com.google.cloud.aiplatform.v1beta1.JobServiceSettings;
import com.google.cloud.aiplatform.v1beta1.JobState;
import com.google.cloud.aiplatform.v1beta1.ListBatchPredictionJobsRequest;
import com.google.cloud.aiplatform.v1beta1.LocationName;
import com.google.cloud.aiplatform.v1beta1.Model;
import com.google.cloud.aiplatform.v1beta1.ModelName;
import com.google.cloud.aiplatform.v1beta1.ModelServiceClient;
import com.google.cloud.aiplatform.v1beta1.ModelServiceSettings;
import com.google.cloud.aiplatform.v1beta1.schema.predict.params.VideoObjectTrackingPredictionParams;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Value;
import emulator.clients.Emulator.Transport;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.EnumSource;

/** v1beta1, whose messages are classes of their own. */
@ParameterizedClass
@EnumSource(Transport.class)
@Timeout(value = 300, unit = SECONDS)
class BetaJobServiceTest {
  private static final LocationName PARENT = LocationName.of(PROJECT, LOCATION);

  private final Transport transport;
  private JobServiceClient jobs;
  private String test;

  BetaJobServiceTest(Transport transport) {
    this.transport = transport;
  }

  @BeforeEach
  void connect(TestInfo info) throws IOException {
    test = "beta-" + info.getTestMethod().orElseThrow().getName() + "-" + transport;
    JobServiceSettings.Builder settings = transport.point(JobServiceSettings.newBuilder());
    settings.applyToAllUnaryMethods(Emulator::beingPatient);
    jobs = JobServiceClient.create(settings.build());
  }

  @AfterEach
  void disconnect() {
    jobs.close();
  }

  @Test
  void objectTrackingWithParameters() throws Exception {
    BatchPredictionJob job = create("video-object-tracking", "object-tracking", threshold(0.5f));
    Predictions.assertTracks(linesOf(job), 0.5);
  }

  @Test
  void actionRecognitionWithEmptyValue() throws Exception {
    BatchPredictionJob job =
        create("video-action-recognition", "action-recognition", ValueConverter.EMPTY_VALUE);
    Predictions.assertActions(linesOf(job));
  }

  @Test
  void listCancelAndDelete() throws Exception {
    List<String> names = new ArrayList<>();
    for (int count = 0; count < 2; count++) {
      BatchPredictionJob job =
          create("video-object-tracking", "long", ValueConverter.EMPTY_VALUE);
      names.add(0, job.getName()); // newest first, as lists are
    }
    var listed =
        jobs.listBatchPredictionJobs(
            ListBatchPredictionJobsRequest.newBuilder()
                .setParent(PARENT.toString())
                .setFilter("display_name=\"" + test + "\"")
                .setPageSize(1)
                .build());
    assertEquals(1, listed.getPage().getPageElementCount());
    assertEquals(
        names,
        StreamSupport.stream(listed.iterateAll().spliterator(), false)
            .map(BatchPredictionJob::getName)
            .toList());

    await(names.get(1), JobState.JOB_STATE_RUNNING);
    for (String name : names) {
      jobs.cancelBatchPredictionJob(name);
      await(name, JobState.JOB_STATE_CANCELLED);
      var deletion = jobs.deleteBatchPredictionJobAsync(name);
      deletion.get(300, SECONDS);
      assertTrue(deletion.getMetadata().get().getGenericMetadata().hasCreateTime());
      assertThrows(NotFoundException.class, () -> jobs.getBatchPredictionJob(name));
    }
  }

  @Test
  void errors() throws InvalidProtocolBufferException {
    BatchPredictionJobName unknown = BatchPredictionJobName.of(PROJECT, LOCATION, "4711");
    assertThrows(NotFoundException.class, () -> jobs.getBatchPredictionJob(unknown));
    Value parameters = threshold(1.5f);
    InvalidArgumentException problem =
        assertThrows(
            InvalidArgumentException.class,
            () -> create("video-object-tracking", "object-tracking", parameters));
    assertTrue(problem.getMessage().contains("confidenceThreshold"), problem::getMessage);
  }

  @Test
  void bundledModels() throws IOException {
    ModelServiceSettings.Builder settings = transport.point(ModelServiceSettings.newBuilder());
    settings.applyToAllUnaryMethods(Emulator::beingPatient);
    try (ModelServiceClient models = ModelServiceClient.create(settings.build())) {
      Set<String> found =
          StreamSupport.stream(models.listModels(PARENT).iterateAll().spliterator(), false)
              .map(Model::getDisplayName)
              .collect(Collectors.toSet());
      Set<String> bundled = Set.of("video-action-recognition", "video-object-tracking");
      assertTrue(found.containsAll(bundled), found::toString);
    }
  }

  private static Value threshold(float least) throws InvalidProtocolBufferException {
    return ValueConverter.toValue(
        VideoObjectTrackingPredictionParams.newBuilder().setConfidenceThreshold(least).build());
  }

  private BatchPredictionJob create(String model, String input, Value parameters) {
    GcsSource source =
        GcsSource.newBuilder().addUris(Emulator.inBucket(input + ".jsonl")).build();
    GcsDestination destination =
        GcsDestination.newBuilder().setOutputUriPrefix(Emulator.outputOf(test)).build();
    BatchPredictionJob job =
        BatchPredictionJob.newBuilder()
            .setDisplayName(test)
            .setModel(ModelName.of(PROJECT, LOCATION, model).toString())
            .setModelParameters(parameters)
            .setInputConfig(
                BatchPredictionJob.InputConfig.newBuilder()
                    .setInstancesFormat("jsonl")
                    .setGcsSource(source))
            .setOutputConfig(
                BatchPredictionJob.OutputConfig.newBuilder()
                    .setPredictionsFormat("jsonl")
                    .setGcsDestination(destination))
            .build();
    return jobs.createBatchPredictionJob(PARENT, job);
  }

  private List<Predictions.Line> linesOf(BatchPredictionJob created) throws Exception {
    BatchPredictionJob job = await(created.getName(), JobState.JOB_STATE_SUCCEEDED);
    return Predictions.read(job.getOutputInfo().getGcsOutputDirectory());
  }

  private BatchPredictionJob await(String name, JobState state) throws InterruptedException {
    while (true) {
      BatchPredictionJob job = jobs.getBatchPredictionJob(name);
      if (job.getState() == state) {
        return job;
      }
      if (job.hasEndTime()) {
        fail(job.toString());
      }
      Thread.sleep(200);
    }
  }
}

package emulator.clients;

import static emulator.clients.Emulator.LOCATION;
import static emulator.clients.Emulator.PROJECT;
import static java.util.concurrent.TimeUnit.SECONDS;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assertions.fail;

import com.google.api.gax.rpc.FailedPreconditionException;
import com.google.api.gax.rpc.InvalidArgumentException;
import com.google.api.gax.rpc.NotFoundException;
import com.google.api.gax.rpc.UnimplementedException;
import com.google.cloud.aiplatform.util.ValueConverter;
import com.google.cloud.aiplatform.v1.BatchPredictionJob;
import com.google.cloud.aiplatform.v1.BatchPredictionJobName;
import com.google.cloud.aiplatform.v1.CustomJobName;
import com.google.cloud.aiplatform.v1.GcsDestination;
import com.google.cloud.aiplatform.v1.GcsSource;
import com.google.cloud.aiplatform.v1.JobServiceClient;
import com.google.cloud.aiplatform.v1.JobServiceClient.ListBatchPredictionJobsPage;
import com.google.cloud.aiplatform.v1.JobServiceSettings;
import com.google.cloud.aiplatform.v1.JobState;
import com.google.cloud.aiplatform.v1.ListBatchPredictionJobsRequest;
import com.google.cloud.aiplatform.v1.LocationName;
import com.google.cloud.aiplatform.v1.ModelName;
import com.google.cloud.aiplatform.v1.schema.predict.params.VideoObjectTrackingPredictionParams;
import com.google.protobuf.FieldMask;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Value;
import emulator.clients.Emulator.Transport;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.stream.StreamSupport;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestInfo;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.provider.EnumSource;

@ParameterizedClass
@EnumSource(Transport.class)
@Timeout(value = 300, unit = SECONDS)
class JobServiceTest {
  private static final LocationName PARENT = LocationName.of(PROJECT, LOCATION);

  private final Transport transport;
  private JobServiceClient jobs;
  private String test;

  JobServiceTest(Transport transport) {
    this.transport = transport;
  }

  @BeforeEach
  void connect(TestInfo info) throws IOException {
    test = info.getTestMethod().orElseThrow().getName() + "-" + transport;
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
    assertEquals(JobState.JOB_STATE_PENDING, job.getState());
    assertEquals(test, job.getDisplayName());
    assertTrue(job.hasCreateTime());
    assertEquals(
        0.5,
        job.getModelParameters()
            .getStructValue()
            .getFieldsOrThrow("confidenceThreshold")
            .getNumberValue());

    job = await(job.getName(), JobState.JOB_STATE_SUCCEEDED);
    assertEquals(1, job.getCompletionStats().getSuccessfulCount());
    String directory = job.getOutputInfo().getGcsOutputDirectory();
    String prefix = Emulator.outputOf(test) + "/prediction-video-object-tracking-";
    assertTrue(directory.startsWith(prefix), directory);
    Predictions.assertTracks(Predictions.read(directory), 0.5);
  }

  @Test
  void actionRecognitionWithEmptyValue() throws Exception {
    BatchPredictionJob job =
        create("video-action-recognition", "action-recognition", ValueConverter.EMPTY_VALUE);
    job = await(job.getName(), JobState.JOB_STATE_SUCCEEDED);
    Predictions.assertActions(Predictions.read(job.getOutputInfo().getGcsOutputDirectory()));
  }

  @Test
  void listFiltersAndPages() throws Exception {
    List<String> names = new ArrayList<>();
    for (int count = 0; count < 3; count++) {
      names.add(0, createLong().getName()); // newest first, as lists are
    }
    ListBatchPredictionJobsRequest.Builder request =
        ListBatchPredictionJobsRequest.newBuilder()
            .setParent(PARENT.toString())
            .setFilter("display_name=\"" + test + "\"")
            .setReadMask(FieldMask.newBuilder().addPaths("name").addPaths("create_time"))
            .setPageSize(2);

    List<Integer> pageSizes = new ArrayList<>();
    List<BatchPredictionJob> found = new ArrayList<>();
    for (ListBatchPredictionJobsPage page :
        jobs.listBatchPredictionJobs(request.build()).iteratePages()) {
      pageSizes.add(page.getPageElementCount());
      page.getValues().forEach(found::add);
    }
    assertEquals(List.of(2, 1), pageSizes);
    assertEquals(names, found.stream().map(BatchPredictionJob::getName).toList());
    assertTrue(found.stream().allMatch(job -> job.hasCreateTime() && job.getDisplayName().isEmpty()));

    cancel(names.get(0));
    request.setFilter(request.getFilter() + " AND state=\"JOB_STATE_CANCELLED\"");
    assertEquals(List.of(names.get(0)), namesOf(request.build()));
    for (String name : names.subList(1, 3)) {
      cancel(name);
    }
  }

  @Test
  void cancelWhileRunning() throws Exception {
    BatchPredictionJob job = createLong();
    await(job.getName(), JobState.JOB_STATE_RUNNING);
    job = cancel(job.getName());
    assertTrue(job.hasStartTime() && job.hasEndTime(), job::toString);
  }

  @Test
  void deleteWithItsOperation() throws Exception {
    BatchPredictionJobName name = BatchPredictionJobName.parse(createLong().getName());
    ExecutionException refused =
        assertThrows(
            ExecutionException.class,
            () -> jobs.deleteBatchPredictionJobAsync(name).get(300, SECONDS));
    assertInstanceOf(FailedPreconditionException.class, refused.getCause());
    cancel(name.toString());

    var deletion = jobs.deleteBatchPredictionJobAsync(name);
    deletion.get(300, SECONDS);
    assertTrue(deletion.getMetadata().get().getGenericMetadata().hasCreateTime());
    assertNotFound(name);
  }

  @Test
  void unknownJobIsNotFound() {
    assertNotFound(BatchPredictionJobName.of(PROJECT, LOCATION, "4711"));
  }

  @Test
  void invalidArgumentNamesTheField() throws InvalidProtocolBufferException {
    Value parameters = threshold(1.5f);
    InvalidArgumentException problem =
        assertThrows(
            InvalidArgumentException.class,
            () -> create("video-object-tracking", "object-tracking", parameters));
    assertTrue(problem.getMessage().contains("confidenceThreshold"), problem::getMessage);
    assertFalse(problem.isRetryable());
    String field = problem.getErrorDetails().getBadRequest().getFieldViolations(0).getField();
    assertTrue(field.startsWith("batch_prediction_job.model_parameters"), field);
  }

  @Test
  void whatIsNotEmulatedSaysSo() {
    CustomJobName name = CustomJobName.of(PROJECT, LOCATION, "1");
    UnimplementedException problem =
        assertThrows(UnimplementedException.class, () -> jobs.getCustomJob(name));
    assertTrue(problem.getMessage().contains("GetCustomJob"), problem::getMessage);
  }

  private static Value threshold(float least) throws InvalidProtocolBufferException {
    return ValueConverter.toValue(
        VideoObjectTrackingPredictionParams.newBuilder().setConfidenceThreshold(least).build());
  }

  /** The documentation's request. */
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

  private BatchPredictionJob createLong() {
    return create("video-object-tracking", "long", ValueConverter.EMPTY_VALUE);
  }

  private BatchPredictionJob cancel(String name) throws InterruptedException {
    jobs.cancelBatchPredictionJob(name);
    return await(name, JobState.JOB_STATE_CANCELLED);
  }

  /** Looks at a job until it has the state; a job that ended in another one fails the test. */
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

  private void assertNotFound(BatchPredictionJobName name) {
    NotFoundException problem =
        assertThrows(NotFoundException.class, () -> jobs.getBatchPredictionJob(name));
    String named = "/batchPredictionJobs/" + name.getBatchPredictionJob() + ".";
    assertTrue(problem.getMessage().contains(named), problem::getMessage);
  }

  private List<String> namesOf(ListBatchPredictionJobsRequest request) {
    var found = jobs.listBatchPredictionJobs(request).iterateAll();
    return StreamSupport.stream(found.spliterator(), false)
        .map(BatchPredictionJob::getName)
        .toList();
  }
}

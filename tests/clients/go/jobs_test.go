package clients

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	aiplatform "cloud.google.com/go/aiplatform/apiv1"
	"cloud.google.com/go/aiplatform/apiv1/aiplatformpb"
	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
)

func jobClient(t *testing.T, way transport) *aiplatform.JobClient {
	t.Helper()
	client, err := aiplatform.NewJobClient(t.Context(), way.options(t)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOrFail(t, client) })
	return client
}

// overEach runs a test over every transport.
func overEach(t *testing.T, test func(t *testing.T, jobs *aiplatform.JobClient)) {
	for _, way := range transports {
		t.Run(way.name, func(t *testing.T) { test(t, jobClient(t, way)) })
	}
}

// newJob builds the documentation's request.
func newJob(t *testing.T, model, input string, parameters *structpb.Value) *aiplatformpb.CreateBatchPredictionJobRequest {
	t.Helper()
	return &aiplatformpb.CreateBatchPredictionJobRequest{
		Parent: parent(t),
		BatchPredictionJob: &aiplatformpb.BatchPredictionJob{
			DisplayName:     t.Name(),
			Model:           modelName(t, model),
			ModelParameters: parameters,
			InputConfig: &aiplatformpb.BatchPredictionJob_InputConfig{
				InstancesFormat: "jsonl",
				Source: &aiplatformpb.BatchPredictionJob_InputConfig_GcsSource{
					GcsSource: &aiplatformpb.GcsSource{Uris: []string{inBucket(t, input)}},
				},
			},
			OutputConfig: &aiplatformpb.BatchPredictionJob_OutputConfig{
				PredictionsFormat: "jsonl",
				Destination: &aiplatformpb.BatchPredictionJob_OutputConfig_GcsDestination{
					GcsDestination: &aiplatformpb.GcsDestination{OutputUriPrefix: outputFolder(t)},
				},
			},
		},
	}
}

// threshold is the parameter of the documentation's object tracking request.
func threshold(t *testing.T, least float64) *structpb.Value {
	t.Helper()
	value, err := structpb.NewValue(map[string]any{"confidenceThreshold": least})
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func create(ctx context.Context, t *testing.T, jobs *aiplatform.JobClient, request *aiplatformpb.CreateBatchPredictionJobRequest) *aiplatformpb.BatchPredictionJob {
	t.Helper()
	job, err := jobs.CreateBatchPredictionJob(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func get(ctx context.Context, t *testing.T, jobs *aiplatform.JobClient, name string) *aiplatformpb.BatchPredictionJob {
	t.Helper()
	job, err := jobs.GetBatchPredictionJob(ctx, &aiplatformpb.GetBatchPredictionJobRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// await looks at a job until it has the state; a job that ended in another one fails the test.
func await(ctx context.Context, t *testing.T, jobs *aiplatform.JobClient, name string, state aiplatformpb.JobState) *aiplatformpb.BatchPredictionJob {
	t.Helper()
	for {
		job := get(ctx, t, jobs, name)
		if job.State == state {
			return job
		}
		if job.EndTime != nil {
			t.Fatalf("the job ended as %v: %v", job.State, job.Error)
		}
		time.Sleep(glance)
	}
}

func cancelled(ctx context.Context, t *testing.T, jobs *aiplatform.JobClient, name string) *aiplatformpb.BatchPredictionJob {
	t.Helper()
	err := jobs.CancelBatchPredictionJob(ctx, &aiplatformpb.CancelBatchPredictionJobRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return await(ctx, t, jobs, name, aiplatformpb.JobState_JOB_STATE_CANCELLED)
}

func TestObjectTracking(t *testing.T) {
	overEach(t, func(t *testing.T, jobs *aiplatform.JobClient) {
		ctx := limited(t)
		request := newJob(t, "video-object-tracking", "object-tracking.jsonl", threshold(t, 0.5))
		job := create(ctx, t, jobs, request)
		if job.State != aiplatformpb.JobState_JOB_STATE_PENDING || job.CreateTime == nil {
			t.Errorf("created: %v", job)
		}
		if got := job.ModelParameters.GetStructValue().GetFields()["confidenceThreshold"].GetNumberValue(); got != 0.5 {
			t.Errorf("the threshold came back as %v", got)
		}
		job = await(ctx, t, jobs, job.Name, aiplatformpb.JobState_JOB_STATE_SUCCEEDED)
		if job.CompletionStats.GetSuccessfulCount() != 1 || job.EndTime == nil {
			t.Errorf("succeeded: %v", job)
		}
		directory := job.OutputInfo.GetGcsOutputDirectory()
		if !strings.HasPrefix(directory, outputFolder(t)+"/prediction-video-object-tracking-") {
			t.Errorf("the output directory is %s", directory)
		}
		assertTracks(t, readLines(ctx, t, directory), 0.5)
	})
}

func TestActionRecognition(t *testing.T) {
	overEach(t, func(t *testing.T, jobs *aiplatform.JobClient) {
		ctx := limited(t)
		// A Value of no kind, as in the documentation's sample for this objective.
		request := newJob(t, "video-action-recognition", "action-recognition.jsonl", &structpb.Value{})
		job := create(ctx, t, jobs, request)
		job = await(ctx, t, jobs, job.Name, aiplatformpb.JobState_JOB_STATE_SUCCEEDED)
		assertActions(t, readLines(ctx, t, job.OutputInfo.GetGcsOutputDirectory()))
	})
}

func TestListFiltersAndPages(t *testing.T) {
	overEach(t, func(t *testing.T, jobs *aiplatform.JobClient) {
		ctx := limited(t)
		var names []string
		for range 3 {
			job := create(ctx, t, jobs, newJob(t, "video-object-tracking", "long.jsonl", nil))
			names = append(names, job.Name)
		}
		request := &aiplatformpb.ListBatchPredictionJobsRequest{
			Parent:   parent(t),
			Filter:   fmt.Sprintf(`display_name="%s"`, t.Name()),
			ReadMask: &fieldmaskpb.FieldMask{Paths: []string{"name", "create_time"}},
		}
		var pages [][]*aiplatformpb.BatchPredictionJob
		pager := iterator.NewPager(jobs.ListBatchPredictionJobs(ctx, request), 2, "")
		for token := "more"; token != ""; {
			var page []*aiplatformpb.BatchPredictionJob
			var err error
			if token, err = pager.NextPage(&page); err != nil {
				t.Fatal(err)
			}
			pages = append(pages, page)
		}
		if len(pages) != 2 || len(pages[0]) != 2 || len(pages[1]) != 1 {
			t.Fatalf("pages: %v", pages)
		}
		for index, job := range slices.Concat(pages...) {
			if want := names[len(names)-1-index]; job.Name != want { // newest first
				t.Errorf("job %d is %s, not %s", index, job.Name, want)
			}
			if job.CreateTime == nil || job.DisplayName != "" {
				t.Errorf("the read mask was not kept to: %v", job)
			}
		}
		cancelled(ctx, t, jobs, names[0])
		request.Filter += ` AND state="JOB_STATE_CANCELLED"`
		if found := all(t, jobs.ListBatchPredictionJobs(ctx, request)); len(found) != 1 || found[0].Name != names[0] {
			t.Errorf("cancelled: %v", found)
		}
		for _, name := range names[1:] {
			cancelled(ctx, t, jobs, name)
		}
	})
}

func all(t *testing.T, jobs *aiplatform.BatchPredictionJobIterator) []*aiplatformpb.BatchPredictionJob {
	t.Helper()
	var found []*aiplatformpb.BatchPredictionJob
	for job, err := range jobs.All() {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, job)
	}
	return found
}

func TestCancelWhileRunning(t *testing.T) {
	overEach(t, func(t *testing.T, jobs *aiplatform.JobClient) {
		ctx := limited(t)
		job := create(ctx, t, jobs, newJob(t, "video-object-tracking", "long.jsonl", nil))
		await(ctx, t, jobs, job.Name, aiplatformpb.JobState_JOB_STATE_RUNNING)
		job = cancelled(ctx, t, jobs, job.Name)
		if job.StartTime == nil || job.EndTime == nil {
			t.Errorf("cancelled: %v", job)
		}
	})
}

func TestDelete(t *testing.T) {
	overEach(t, func(t *testing.T, jobs *aiplatform.JobClient) {
		ctx := limited(t)
		job := create(ctx, t, jobs, newJob(t, "video-object-tracking", "long.jsonl", nil))
		request := &aiplatformpb.DeleteBatchPredictionJobRequest{Name: job.Name}
		_, err := jobs.DeleteBatchPredictionJob(ctx, request)
		assertCode(t, err, codes.FailedPrecondition, job.Name)
		cancelled(ctx, t, jobs, job.Name)

		operation, err := jobs.DeleteBatchPredictionJob(ctx, request)
		if err != nil {
			t.Fatal(err)
		}
		if err := operation.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		metadata, err := operation.Metadata()
		if err != nil || metadata.GetGenericMetadata().GetCreateTime() == nil {
			t.Errorf("the operation's metadata is %v (%v)", metadata, err)
		}
		// A program that kept only the operation's name finds it again.
		resumed := jobs.DeleteBatchPredictionJobOperation(operation.Name())
		if err := resumed.Poll(ctx); err != nil || !resumed.Done() {
			t.Errorf("the operation found again: done %v, %v", resumed.Done(), err)
		}
		_, err = jobs.GetBatchPredictionJob(ctx, &aiplatformpb.GetBatchPredictionJobRequest{Name: job.Name})
		assertCode(t, err, codes.NotFound, job.Name)
	})
}

func TestUnknownJobIsNotFound(t *testing.T) {
	overEach(t, func(t *testing.T, jobs *aiplatform.JobClient) {
		request := &aiplatformpb.GetBatchPredictionJobRequest{Name: parent(t) + "/batchPredictionJobs/4711"}
		_, err := jobs.GetBatchPredictionJob(limited(t), request)
		assertCode(t, err, codes.NotFound, "/batchPredictionJobs/4711.")
	})
}

func TestInvalidArgumentNamesTheField(t *testing.T) {
	overEach(t, func(t *testing.T, jobs *aiplatform.JobClient) {
		request := newJob(t, "video-object-tracking", "object-tracking.jsonl", threshold(t, 1.5))
		_, err := jobs.CreateBatchPredictionJob(limited(t), request)
		assertCode(t, err, codes.InvalidArgument, "confidenceThreshold")
		var problem *apierror.APIError
		if !errors.As(err, &problem) {
			t.Fatalf("%T is no API error", err)
		}
		violations := problem.Details().BadRequest.GetFieldViolations()
		if len(violations) != 1 || !strings.HasPrefix(violations[0].Field, "batch_prediction_job.model_parameters") {
			t.Errorf("violations: %v", violations)
		}
	})
}

func TestWhatIsNotEmulatedSaysSo(t *testing.T) {
	overEach(t, func(t *testing.T, jobs *aiplatform.JobClient) {
		request := &aiplatformpb.GetCustomJobRequest{Name: parent(t) + "/customJobs/1"}
		_, err := jobs.GetCustomJob(limited(t), request)
		assertCode(t, err, codes.Unimplemented, "GetCustomJob")
	})
}

package clients

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	aiplatform "cloud.google.com/go/aiplatform/apiv1beta1"
	"cloud.google.com/go/aiplatform/apiv1beta1/aiplatformpb"
	"google.golang.org/api/iterator"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"
)

// beta is what a test of v1beta1 works with. Its messages are types of their own, so v1's helpers do not fit them.
type beta struct {
	*aiplatform.JobClient
}

// overEachBeta runs a test of v1beta1 over every transport.
func overEachBeta(t *testing.T, test func(ctx context.Context, t *testing.T, jobs beta)) {
	for _, way := range transports {
		t.Run(way.name, func(t *testing.T) {
			client, err := aiplatform.NewJobClient(t.Context(), way.options(t)...)
			if err != nil {
				t.Fatal(err)
			}
			defer closeOrFail(t, client)
			test(limited(t), t, beta{client})
		})
	}
}

func newBetaJob(t *testing.T, model, input string, parameters *structpb.Value) *aiplatformpb.CreateBatchPredictionJobRequest {
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

func (jobs beta) create(ctx context.Context, t *testing.T, request *aiplatformpb.CreateBatchPredictionJobRequest) string {
	t.Helper()
	job, err := jobs.CreateBatchPredictionJob(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	return job.Name
}

func (jobs beta) await(ctx context.Context, t *testing.T, name string, state aiplatformpb.JobState) *aiplatformpb.BatchPredictionJob {
	t.Helper()
	for {
		job, err := jobs.GetBatchPredictionJob(ctx, &aiplatformpb.GetBatchPredictionJobRequest{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if job.State == state {
			return job
		}
		if job.EndTime != nil {
			t.Fatalf("the job ended as %v: %v", job.State, job.Error)
		}
		time.Sleep(glance)
	}
}

// predict runs a job to its end; returns the lines it wrote.
func (jobs beta) predict(ctx context.Context, t *testing.T, request *aiplatformpb.CreateBatchPredictionJobRequest) []line {
	t.Helper()
	job := jobs.await(ctx, t, jobs.create(ctx, t, request), aiplatformpb.JobState_JOB_STATE_SUCCEEDED)
	return readLines(ctx, t, job.OutputInfo.GetGcsOutputDirectory())
}

func TestBetaPredicts(t *testing.T) {
	overEachBeta(t, func(ctx context.Context, t *testing.T, jobs beta) {
		tracking := newBetaJob(t, "video-object-tracking", "object-tracking.jsonl", threshold(t, 0.5))
		assertTracks(t, jobs.predict(ctx, t, tracking), 0.5)
		actions := newBetaJob(t, "video-action-recognition", "action-recognition.jsonl", &structpb.Value{})
		assertActions(t, jobs.predict(ctx, t, actions))
	})
}

func TestBetaListsCancelsAndDeletes(t *testing.T) {
	overEachBeta(t, func(ctx context.Context, t *testing.T, jobs beta) {
		first := jobs.create(ctx, t, newBetaJob(t, "video-object-tracking", "long.jsonl", nil))
		second := jobs.create(ctx, t, newBetaJob(t, "video-object-tracking", "long.jsonl", nil))
		listed := jobs.ListBatchPredictionJobs(ctx, &aiplatformpb.ListBatchPredictionJobsRequest{
			Parent: parent(t),
			Filter: fmt.Sprintf(`display_name="%s"`, t.Name()),
		})
		var page []*aiplatformpb.BatchPredictionJob
		token, err := iterator.NewPager(listed, 1, "").NextPage(&page)
		if err != nil || token == "" || len(page) != 1 || page[0].Name != second {
			t.Errorf("the first page is %v, the token for more %q (%v)", page, token, err)
		}
		jobs.await(ctx, t, first, aiplatformpb.JobState_JOB_STATE_RUNNING)
		for _, name := range []string{first, second} {
			err := jobs.CancelBatchPredictionJob(ctx, &aiplatformpb.CancelBatchPredictionJobRequest{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			jobs.await(ctx, t, name, aiplatformpb.JobState_JOB_STATE_CANCELLED)
			deletion, err := jobs.DeleteBatchPredictionJob(ctx, &aiplatformpb.DeleteBatchPredictionJobRequest{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			if err := deletion.Wait(ctx); err != nil {
				t.Fatal(err)
			}
			if metadata, err := deletion.Metadata(); err != nil || metadata.GetGenericMetadata() == nil {
				t.Errorf("the operation's metadata is %v (%v)", metadata, err)
			}
		}
	})
}

func TestBetaErrors(t *testing.T) {
	overEachBeta(t, func(ctx context.Context, t *testing.T, jobs beta) {
		unknown := &aiplatformpb.GetBatchPredictionJobRequest{Name: parent(t) + "/batchPredictionJobs/4711"}
		_, err := jobs.GetBatchPredictionJob(ctx, unknown)
		assertCode(t, err, codes.NotFound, "/batchPredictionJobs/4711.")

		request := newBetaJob(t, "video-object-tracking", "object-tracking.jsonl", threshold(t, 1.5))
		_, err = jobs.CreateBatchPredictionJob(ctx, request)
		assertCode(t, err, codes.InvalidArgument, "confidenceThreshold")
	})
}

func TestBetaModels(t *testing.T) {
	for _, way := range transports {
		t.Run(way.name, func(t *testing.T) {
			ctx := limited(t)
			models, err := aiplatform.NewModelClient(ctx, way.options(t)...)
			if err != nil {
				t.Fatal(err)
			}
			defer closeOrFail(t, models)
			var found []string
			for model, err := range models.ListModels(ctx, &aiplatformpb.ListModelsRequest{Parent: parent(t)}).All() {
				if err != nil {
					t.Fatal(err)
				}
				found = append(found, model.DisplayName)
			}
			for _, bundled := range []string{"video-action-recognition", "video-object-tracking"} {
				if !slices.Contains(found, bundled) {
					t.Errorf("%s is not among %v", bundled, found)
				}
			}
		})
	}
}

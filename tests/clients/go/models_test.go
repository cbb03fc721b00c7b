package clients

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	aiplatform "cloud.google.com/go/aiplatform/apiv1"
	"cloud.google.com/go/aiplatform/apiv1/aiplatformpb"
	"google.golang.org/grpc/codes"
)

// bundled is the folder of a model that comes with the emulator.
const bundled = "../../../models/video-object-tracking"

func modelClient(t *testing.T, way transport) *aiplatform.ModelClient {
	t.Helper()
	client, err := aiplatform.NewModelClient(t.Context(), way.options(t)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOrFail(t, client) })
	return client
}

// putModel uploads a model's files into a folder of the bucket; returns the folder's URI.
func putModel(t *testing.T, folder string) string {
	t.Helper()
	bucket := storageClient(t).Bucket(variable(t, "EMULATOR_BUCKET"))
	for _, name := range []string{"model.toml", "model.onnx", "labels.txt"} {
		content, err := os.ReadFile(filepath.Join(bundled, name))
		if err != nil {
			t.Fatal(err)
		}
		upload(t.Context(), t, bucket.Object(folder+"/"+name), content)
	}
	return inBucket(t, folder)
}

func TestBundledModels(t *testing.T) {
	for _, way := range transports {
		t.Run(way.name, func(t *testing.T) {
			ctx, models := limited(t), modelClient(t, way)
			name := modelName(t, "video-object-tracking")
			model, err := models.GetModel(ctx, &aiplatformpb.GetModelRequest{Name: name})
			if err != nil {
				t.Fatal(err)
			}
			if model.DisplayName != "video-object-tracking" || model.VersionId == "" {
				t.Errorf("the model is %v", model)
			}
			request := &aiplatformpb.ListModelsRequest{Parent: parent(t), Filter: `display_name="video-action-recognition"`}
			var found []string
			for model, err := range models.ListModels(ctx, request).All() {
				if err != nil {
					t.Fatal(err)
				}
				found = append(found, model.DisplayName)
			}
			if len(found) != 1 || found[0] != "video-action-recognition" {
				t.Errorf("found %v", found)
			}
			_, err = models.GetModel(ctx, &aiplatformpb.GetModelRequest{Name: modelName(t, "4711")})
			assertCode(t, err, codes.NotFound, "/models/4711.")
		})
	}
}

func TestUploadedModelPredicts(t *testing.T) {
	ctx, models, jobs := limited(t), modelClient(t, transports[0]), jobClient(t, transports[0])
	upload, err := models.UploadModel(ctx, &aiplatformpb.UploadModelRequest{
		Parent: parent(t),
		Model:  &aiplatformpb.Model{DisplayName: "from Go", ArtifactUri: putModel(t, "models/go")},
	})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := upload.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	id := answer.Model[strings.LastIndex(answer.Model, "/")+1:]
	request := newJob(t, id, "object-tracking.jsonl", threshold(t, 0.5))
	job := create(ctx, t, jobs, request)
	job = await(ctx, t, jobs, job.Name, aiplatformpb.JobState_JOB_STATE_SUCCEEDED)
	assertTracks(t, readLines(ctx, t, job.OutputInfo.GetGcsOutputDirectory()), 0.5)

	deletion, err := models.DeleteModel(ctx, &aiplatformpb.DeleteModelRequest{Name: answer.Model})
	if err != nil {
		t.Fatal(err)
	}
	if err := deletion.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	_, err = models.GetModel(ctx, &aiplatformpb.GetModelRequest{Name: answer.Model})
	assertCode(t, err, codes.NotFound, answer.Model)
}

func TestUploadWithoutArtifactIsInvalid(t *testing.T) {
	models := modelClient(t, transports[0])
	_, err := models.UploadModel(limited(t), &aiplatformpb.UploadModelRequest{
		Parent: parent(t),
		Model:  &aiplatformpb.Model{DisplayName: "no files"},
	})
	assertCode(t, err, codes.InvalidArgument, "artifact")
}

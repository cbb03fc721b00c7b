// Package clients runs Google's Go clients against a running emulator, which the environment names; `run` is how to
// start it, docs/clients.md says what a program of one's own has to set.
package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/storage"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const (
	location = "us-central1"
	// patience is how long a job may take on a machine that is busy with other things.
	patience = 5 * time.Minute
	// glance is the time between two looks at a job.
	glance = 200 * time.Millisecond
)

// transport is one way for a gRPC client to reach the emulator.
type transport struct {
	name    string
	options func(t *testing.T) []option.ClientOption
}

var transports = []transport{
	{"plain text", plainText},
	{"TLS by the environment", tlsByEnvironment},
	{"TLS by the program", tlsByProgram},
}

// plainText needs no credentials and nothing in the environment.
func plainText(t *testing.T) []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(variable(t, "EMULATOR_GRPC")),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

// tlsByEnvironment changes the endpoint alone: SSL_CERT_FILE names the roots, GOOGLE_APPLICATION_CREDENTIALS the account.
func tlsByEnvironment(t *testing.T) []option.ClientOption {
	variable(t, "SSL_CERT_FILE")
	variable(t, "GOOGLE_APPLICATION_CREDENTIALS")
	return []option.ClientOption{option.WithEndpoint(variable(t, "EMULATOR_TLS"))}
}

// tlsByProgram names the roots in the program, for systems where Go does not read SSL_CERT_FILE.
func tlsByProgram(t *testing.T) []option.ClientOption {
	roots, err := credentials.NewClientTLSFromFile(variable(t, "SSL_CERT_FILE"), "")
	if err != nil {
		t.Fatal(err)
	}
	return []option.ClientOption{
		option.WithEndpoint(variable(t, "EMULATOR_TLS")),
		option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(roots)),
	}
}

// variable returns the value of an environment variable that the suite needs.
func variable(t *testing.T, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set; `make test-clients` sets it", name)
	}
	return value
}

// limited returns the test's context, with an end to waiting.
func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func parent(t *testing.T) string {
	return fmt.Sprintf("projects/%s/locations/%s", variable(t, "EMULATOR_PROJECT"), location)
}

func modelName(t *testing.T, id string) string {
	return fmt.Sprintf("%s/models/%s", parent(t), id)
}

// inBucket returns the URI of an object of the suite's bucket.
func inBucket(t *testing.T, object string) string {
	return fmt.Sprintf("gs://%s/%s", variable(t, "EMULATOR_BUCKET"), object)
}

// outputFolder returns the URI below which a test's jobs write.
func outputFolder(t *testing.T) string {
	return inBucket(t, "out/go/"+strings.NewReplacer(" ", "-", "/", "-").Replace(t.Name()))
}

// storageClient finds the emulator by STORAGE_EMULATOR_HOST, as the library does by itself.
func storageClient(t *testing.T) *storage.Client {
	t.Helper()
	variable(t, "STORAGE_EMULATOR_HOST")
	client, err := storage.NewClient(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOrFail(t, client) })
	return client
}

func closeOrFail(t *testing.T, closer io.Closer) {
	t.Helper()
	if err := closer.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// line is one line of a predictions file, as far as the tests look at it.
type line struct {
	Instance struct {
		Content  string `json:"content"`
		MimeType string `json:"mimeType"`
	} `json:"instance"`
	Prediction []struct {
		DisplayName      string  `json:"displayName"`
		TimeSegmentStart string  `json:"timeSegmentStart"`
		TimeSegmentEnd   string  `json:"timeSegmentEnd"`
		Confidence       float64 `json:"confidence"`
		Frames           []struct {
			TimeOffset string  `json:"timeOffset"`
			XMin       float64 `json:"xMin"`
			XMax       float64 `json:"xMax"`
		} `json:"frames"`
	} `json:"prediction"`
}

// labels returns the distinct display names of a line's predictions.
func (l line) labels() map[string]bool {
	found := map[string]bool{}
	for _, prediction := range l.Prediction {
		found[prediction.DisplayName] = true
	}
	return found
}

// readLines reads every predictions file of a job's output directory with the Cloud Storage client.
func readLines(ctx context.Context, t *testing.T, directory string) []line {
	t.Helper()
	bucketName, prefix, found := strings.Cut(strings.TrimPrefix(directory, "gs://"), "/")
	if !found {
		t.Fatalf("the output directory is %q", directory)
	}
	bucket := storageClient(t).Bucket(bucketName)
	objects := bucket.Objects(ctx, &storage.Query{Prefix: prefix + "/"})
	var lines []line
	for {
		attributes, err := objects.Next()
		if errors.Is(err, iterator.Done) {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(attributes.Name, prefix+"/predictions_") {
			t.Fatalf("%s lies beside the predictions", attributes.Name)
		}
		lines = append(lines, parse(t, download(ctx, t, bucket.Object(attributes.Name)))...)
	}
}

// download reads an object; the client compares its checksum on the way.
func download(ctx context.Context, t *testing.T, object *storage.ObjectHandle) []byte {
	t.Helper()
	reader, err := object.NewReader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer closeOrFail(t, reader)
	content, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// upload writes an object, as a user would put a file of a model there.
func upload(ctx context.Context, t *testing.T, object *storage.ObjectHandle, content []byte) {
	t.Helper()
	writer := object.NewWriter(ctx)
	if _, err := writer.Write(content); err != nil {
		t.Fatal(err)
	}
	closeOrFail(t, writer)
}

func parse(t *testing.T, content []byte) []line {
	t.Helper()
	var lines []line
	for text := range bytes.Lines(content) {
		var parsed line
		if err := json.Unmarshal(text, &parsed); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		lines = append(lines, parsed)
	}
	return lines
}

// assertTracks checks what the documentation's clip of a cat and a dog must give at a threshold.
func assertTracks(t *testing.T, lines []line, threshold float64) {
	t.Helper()
	if len(lines) != 1 || lines[0].Instance.Content != inBucket(t, "clips/pets.mp4") {
		t.Fatalf("lines: %+v", lines)
	}
	if found := lines[0].labels(); !found["cat"] || !found["dog"] {
		t.Errorf("the labels are %v", found)
	}
	for _, track := range lines[0].Prediction {
		if track.Confidence < threshold || len(track.Frames) == 0 {
			t.Errorf("track: %+v", track)
			continue
		}
		first, last := track.Frames[0], track.Frames[len(track.Frames)-1]
		if first.TimeOffset != track.TimeSegmentStart || last.TimeOffset != track.TimeSegmentEnd {
			t.Errorf("frames from %s to %s in %+v", first.TimeOffset, last.TimeOffset, track)
		}
		if first.XMin >= first.XMax {
			t.Errorf("an empty box: %+v", first)
		}
	}
}

// assertActions checks what the documentation's clip of a swing and a jump must give.
func assertActions(t *testing.T, lines []line) {
	t.Helper()
	if len(lines) != 1 || lines[0].Instance.Content != inBucket(t, "clips/figure.mp4") {
		t.Fatalf("lines: %+v", lines)
	}
	if found := lines[0].labels(); !found["swing"] || !found["jump"] {
		t.Errorf("the labels are %v", found)
	}
	for _, action := range lines[0].Prediction {
		if action.TimeSegmentStart != action.TimeSegmentEnd || action.Frames != nil {
			t.Errorf("an action is one moment: %+v", action)
		}
	}
}

// assertCode checks that an error is a gRPC status with a code, and that its message names a value.
func assertCode(t *testing.T, err error, want codes.Code, named string) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
	if err != nil && !strings.Contains(err.Error(), named) {
		t.Errorf("%q does not name %q", err, named)
	}
}

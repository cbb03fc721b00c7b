"""A program for Vertex AI: it uploads a video, has its objects tracked, and prints what was found.

It names no endpoint. In `docker compose --profile sample up` Google's names lead to the emulator; only the
video is unusual, because it is rendered here instead of filmed.
"""

import json
import tempfile
from pathlib import Path

from google.cloud import aiplatform, storage

from emulator.factory import documentation_clip, render

BUCKET = "sample-bucket"


def upload() -> str:
    """Put the video and the list of instances into the bucket; gives the list's URI."""
    client = storage.Client()
    bucket = client.lookup_bucket(BUCKET) or client.create_bucket(BUCKET)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        render(documentation_clip(), video)
        bucket.blob("videos/clip.mp4").upload_from_filename(str(video), content_type="video/mp4")
    instance = {
        "content": f"gs://{BUCKET}/videos/clip.mp4",
        "mimeType": "video/mp4",
        "timeSegmentStart": "0.0s",
        "timeSegmentEnd": "Infinity",
    }
    bucket.blob("instances.jsonl").upload_from_string(json.dumps(instance) + "\n")
    return f"gs://{BUCKET}/instances.jsonl"


def main() -> None:
    """Run one job and print its predictions."""
    aiplatform.init(project="my-project", location="us-central1")
    job = aiplatform.Model("video-object-tracking").batch_predict(
        job_display_name="sample",
        gcs_source=upload(),
        gcs_destination_prefix=f"gs://{BUCKET}/output",
        model_parameters={"confidenceThreshold": 0.5},
    )
    print(job.state.name, job.output_info.gcs_output_directory)
    for output in job.iter_outputs():
        for line in output.download_as_text().splitlines():
            for prediction in json.loads(line)["prediction"]:
                print(
                    f"{prediction['displayName']:8} {prediction['timeSegmentStart']:>7} to"
                    f" {prediction['timeSegmentEnd']:>7}  confidence {prediction['confidence']:.2f}"
                )


if __name__ == "__main__":
    main()

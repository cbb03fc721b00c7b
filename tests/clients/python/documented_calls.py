"""The documentation's calls and nothing else: no line of this program knows of an emulator."""

import sys

from google.cloud import aiplatform


def main(project: str, location: str, model_name: str, gcs_source: str, gcs_destination: str) -> None:
    aiplatform.init(project=project, location=location)
    my_model = aiplatform.Model(model_name)
    batch_prediction_job = my_model.batch_predict(
        job_display_name="documented calls",
        gcs_source=gcs_source,
        gcs_destination_prefix=gcs_destination,
        sync=True,
    )
    batch_prediction_job.wait()
    print(batch_prediction_job.display_name)
    print(batch_prediction_job.resource_name)
    for output in batch_prediction_job.iter_outputs():
        print(output.download_as_text(), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])

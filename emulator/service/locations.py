"""Locations: the regions of Vertex AI. Contract: google/cloud/location/locations.proto."""

from typing import Any

from emulator.service.context import Call, Context, Place
from emulator.service.listing import Ordering, Paging
from emulator.vertex.listing import OrderKey
from emulator.vertex.names import LocationName, project_number

_BY_NAME = Ordering((OrderKey("name", False),))
REGIONS = (
    "africa-south1", "asia-east1", "asia-east2", "asia-northeast1", "asia-northeast2", "asia-northeast3",
    "asia-south1", "asia-south2", "asia-southeast1", "asia-southeast2", "australia-southeast1",
    "australia-southeast2", "europe-central2", "europe-north1", "europe-southwest1", "europe-west1",
    "europe-west12", "europe-west2", "europe-west3", "europe-west4", "europe-west6", "europe-west8",
    "europe-west9", "me-central1", "me-central2", "me-west1", "northamerica-northeast1",
    "northamerica-northeast2", "southamerica-east1", "southamerica-west1", "us-central1", "us-east1",
    "us-east4", "us-east5", "us-south1", "us-west1", "us-west2", "us-west3", "us-west4",
)  # fmt: skip


class LocationService:
    """The calls of `google.cloud.location.Locations`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def get_location(self, request: Any, _call: Call) -> Any:
        """Describe a location. Every well-formed one exists, so clients may invent their own."""
        return self._message(self._context.place(LocationName.parse(request.name, field="name")))

    def list_locations(self, request: Any, _call: Call) -> Any:
        """List a page of the regions, by name."""
        # No name class covers a project alone.
        project = LocationName.parse(f"{request.name}/locations/any", field="name").project
        number = project_number(project, self._context.project_numbers)
        paging = Paging.of(request, number)
        page = _BY_NAME.page(REGIONS, lambda region: (region,), paging)
        response = self._context.contract.location.ListLocationsResponse(next_page_token=page.next_page_token)
        response.locations.extend(self._message(Place(number, region)) for region in page.rows)
        return response

    def _message(self, place: Place) -> Any:
        return self._context.contract.location.Location(
            name=str(place),
            location_id=place.location,
            display_name=place.location,
            labels={"cloud.googleapis.com/region": place.location},
        )

"""The field's metrics of a comparison. They need numpy, so the server never imports them."""

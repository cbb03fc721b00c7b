"""The usual metrics of each objective. They need numpy, so the server never imports them."""

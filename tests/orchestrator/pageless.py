"""Routes of a product without any page."""

urlpatterns: list[object] = []

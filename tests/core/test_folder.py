"""Everything of a campaign lies inside of its directory, each thing at a place of its own."""

from pathlib import Path

from tenfold.core.folder import CampaignFiles


def test_places_are_inside_and_different(tmp_path: Path) -> None:
    files = CampaignFiles(tmp_path)
    names = [name for name, value in vars(CampaignFiles).items() if isinstance(value, property)]
    places = {name: getattr(files, name) for name in names}
    assert len(set(places.values())) == len(places) > 10
    for name, place in places.items():
        assert place.is_relative_to(tmp_path) and place != tmp_path, name
    assert list(tmp_path.iterdir()) == [], "naming a place makes nothing"

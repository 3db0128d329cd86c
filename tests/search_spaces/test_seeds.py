import pytest

from search_spaces.loading import validate

MINIMAL = {"method": "cpsl", "data": "synthetic", "objective": {"metric": "valid/mae"}}


@pytest.mark.parametrize(
    ("search", "confirm", "expected"),
    [
        ({}, None, (1, 2, 3, 4, 5)),
        ({"seed": 3}, None, (4, 5, 6, 7, 8)),
        ({"seed": 3}, {"seeds": 2}, (4, 5)),
        ({"seed": 3}, {"seeds": [3, 9]}, (3, 9)),
        ({}, {"seeds": 0}, ()),
    ],
)
def test_a_number_of_confirm_seeds_counts_on_from_the_seed_of_the_search(search, confirm, expected):
    experiment = MINIMAL | {"search": search} | ({} if confirm is None else {"confirm": confirm})
    assert validate(experiment).confirm.seeds == expected

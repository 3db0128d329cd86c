import pytest

from orchestrator.run.ray_backend import start


def test_a_ray_that_comes_up_late_is_waited_for_and_one_that_does_not_is_given_up(monkeypatch):
    from ray._private import services

    def come_up_late(gcs_address, node_id):
        asked.append(node_id)
        if len(asked) < 3:
            raise RuntimeError("no node of this id yet")
        return {"node_id": node_id}

    asked = []
    monkeypatch.setattr(services, "get_node", come_up_late)
    with start.patient_start():
        assert services.get_node("127.0.0.1:1", "one") == {"node_id": "one"}
    assert services.get_node is come_up_late
    asked.clear()
    monkeypatch.setattr(start, "START_PATIENCE_S", 0.0)
    with start.patient_start(), pytest.raises(RuntimeError, match="yet"):
        services.get_node("127.0.0.1:1", "one")

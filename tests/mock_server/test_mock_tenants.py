"""Tenants and servers: isolation, keys, life cycle."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from by_hand import connected, json_datum

from mock_server import MockServer, Registry, Script
from mock_server.script import ModelSpec
from mock_server.tenants import Tenant


def test_sixteen_tenants_in_parallel_do_not_see_each_other(server: MockServer) -> None:
    """Sixteen threads train at once, each against its own tenant: each record holds its own run and nothing else."""
    together = threading.Barrier(16)

    def train(n: int) -> tuple[list[float], list[str], int]:
        with connected(server, Script(model=ModelSpec(seed=n + 1))) as client:
            together.wait(20)
            data = [json_datum([n % 16, 1], [2, 3])]
            losses = []
            for step in range(4):
                losses.append(client.result(client.forward_backward(2 * step + 1, data))["metrics"]["loss:sum"])
                client.result(client.optim_step(2 * step + 2, learning_rate=0.1))
            record = client.tenant.record()
            assert [o.seq_id for o in record.operations] == list(range(1, 9))
            assert {o.model_id for o in record.operations} == {client.model_id}
            assert len(record.exchanges) == 18
            return losses, sorted(record.aliases.values())[:2], len(record.optimizer_states)

    with ThreadPoolExecutor(16) as pool:
        together_results = list(pool.map(train, range(16)))
    assert len({tuple(losses) for losses, _, _ in together_results}) == 16
    for losses, aliases, steps in together_results:
        assert losses == sorted(losses, reverse=True)
        assert (aliases[0], steps) == ("model-1", 4)


def test_ids_of_one_tenant_mean_nothing_to_another(server: MockServer) -> None:
    """A model, a request and saved weights of someone else do not exist."""
    with connected(server) as one, connected(server) as two:
        saved = one.post("save_weights", {"model_id": one.model_id, "path": "ck", "seq_id": 1})
        path = one.result(saved)["path"]
        assert two.send("get_info", {"model_id": one.model_id}).status_code == 404
        assert two.poll(saved).status_code == 404
        body = {"model_id": two.model_id, "path": path, "seq_id": 1, "optimizer": False}
        assert two.result(two.post("load_weights", body))["category"] == "user"


def test_keys_are_unique_and_look_like_the_services() -> None:
    """A random key begins with `tml-`; a key in use cannot be opened again, a closed one can."""
    registry = Registry()
    assert registry.open_tenant().api_key.startswith("tml-")
    first = registry.open_tenant(api_key="tml-x")
    with pytest.raises(ValueError, match="open already"):
        registry.open_tenant(api_key="tml-x")
    first.close()
    assert registry.open_tenant(api_key="tml-x") is not first
    assert len(registry.tenants()) == 2
    registry.close()
    assert registry.tenants() == ()


def test_a_registry_open_to_all_opens_tenants_on_demand() -> None:
    """For `parity serve`: every key is a tenant, the same key the same one, no key none."""
    registry = Registry(open_to_all=True)
    with MockServer(registry) as server, httpx.Client(base_url=server.base_url, trust_env=False) as http:
        for key in ("tml-a", "tml-a", "tml-b"):
            http.post("/api/v1/create_session", json={}, headers={"x-api-key": key}).raise_for_status()
        assert http.post("/api/v1/create_session", json={}).status_code == 401
        assert {t.api_key: len(t.record().exchanges) for t in registry.tenants()} == {"tml-a": 2, "tml-b": 1}


def test_a_registry_open_to_all_gives_every_tenant_its_script() -> None:
    """Whoever comes is served what the registry was told, and each key is still a service of its own."""
    script = Script(client_config={"fwdbwd_max_chunk_len": 2})
    registry = Registry(open_to_all=True, script=script)
    one, other = registry.find("tml-one"), registry.find("tml-other")
    assert one is not None
    assert other is not None
    assert one is not other
    assert one.script == other.script == script


def test_a_gap_needs_quiet() -> None:
    """The clock of quiet starts with the last request, answer or delivered result, and stands while one is open."""
    now = [100.0]
    tenant = Tenant(Script(quiet_seconds=2.0), api_key="k", clock=lambda: now[0])
    assert tenant.quiet_left() == 2.0
    tenant.begin()
    now[0] = 200.0
    assert tenant.quiet_left() == 2.0
    tenant.end()
    now[0] = 201.5
    assert tenant.quiet_left() == 0.5
    tenant.delivered()
    assert tenant.quiet_left() == 2.0
    now[0] = 204.0
    assert tenant.quiet_left() <= 0


def test_a_server_starts_and_stops_with_its_block() -> None:
    """Ports are the system's choice, several servers run at once, and nothing listens or runs afterwards."""
    before = threading.active_count()
    with MockServer() as one, MockServer() as two:
        assert one.base_url != two.base_url
        url = one.base_url
        assert httpx.get(f"{url}/api/v1/healthz", trust_env=False).json() == {"status": "ok"}
    assert threading.active_count() == before
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/api/v1/healthz", trust_env=False)
    with pytest.raises(RuntimeError, match="not running"):
        _ = one.base_url
    one.stop()


def test_a_taken_port_is_an_error() -> None:
    """OSError at the start, and the first server goes on."""
    with MockServer() as one:
        port = int(one.base_url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match="in use"):
            MockServer(port=port).start()
        assert httpx.get(f"{one.base_url}/api/v1/healthz", trust_env=False).status_code == 200


def test_stopping_with_a_held_poll_is_quick() -> None:
    """A server that goes away answers the polls it holds; it does not wait for them."""
    with MockServer() as server:
        tenant = server.open_tenant()
        with connected(server) as client:
            held = client.optim_step(2)
            entered = threading.Event()
            quiet = client.tenant.quiet_left
            client.tenant.quiet_left = lambda: (entered.set(), quiet())[1]  # type: ignore[method-assign]
            answers: list[int] = []
            poller = threading.Thread(target=lambda: answers.append(client.poll(held).status_code))
            poller.start()
            assert entered.wait(10)
            server.stop()
            poller.join(10)
            assert answers == [410]
            assert tenant.closed


def test_a_client_that_hangs_up_is_not_answered(server: MockServer) -> None:
    """A held poll whose client goes away stays unanswered in the record, and is not held any longer."""
    with connected(server, Script(quiet_seconds=60)) as client:
        held = client.optim_step(2)
        with pytest.raises(httpx.ReadTimeout):
            client.poll(held, timeout=0.05)
        client.result(client.optim_step(1))
        record = client.tenant.record()
        poll = next(e for e in record.exchanges if e.route == "retrieve_future")
        assert (poll.status, poll.answered_ms) == (None, None)

"""forward, forward_backward, optim_step."""

from __future__ import annotations

from functools import lru_cache

from msgspec.structs import asdict

from mock_server.execution import UncomputableError
from mock_server.futures import Outcome, PassResult, Result
from mock_server.handlers.call import Call, Reply, operate
from mock_server.optimizer import StepParams
from mock_server.record import OptimizerState
from mock_server.tenants import Model
from mock_server.wire import requests

_NO_METRICS = Result({"metrics": {}, "type": "optim_step"})


def forward(call: Call) -> Reply:
    """Compute logprobs (JSON, releases before 0.25.0)."""
    if call.decoded.encoding == "protobuf":
        return forward_backward(call, always_forward=True)
    body = call.body(requests.Forward)
    return _pass(call, body.model_id, body.seq_id, body.forward_input.loss_fn, forward_only=True)


def forward_backward(call: Call, *, always_forward: bool = False) -> Reply:
    """Compute logprobs and accumulate the gradient; with `forward_only` (protobuf) logprobs only."""
    if call.decoded.encoding == "protobuf":
        fields = call.decoded.fields
        only = always_forward or bool(fields.get("forward_only", False))
        # proto3 cannot tell a seq_id of 0 from none, and no release counts from 0
        return _pass(
            call, fields.get("model_id", ""), fields.get("seq_id") or None, fields.get("loss_fn", ""), forward_only=only
        )
    body = call.body(requests.ForwardBackward)
    return _pass(call, body.model_id, body.seq_id, body.forward_backward_input.loss_fn, forward_only=False)


def optim_step(call: Call) -> Reply:
    """Apply the accumulated gradient and clear it. Parameters that are not sent have the service's defaults."""
    body = call.body(requests.OptimStep)
    tenant = call.tenant

    def effect(model: Model) -> Outcome:
        if body.optimizer_params is not None:
            raise UncomputableError(
                f"only adam_params are computed here, got optimizer_params {body.optimizer_params.get('type')!r}"
            )
        metrics, gradient = model.trainer.optim_step(_step_params(body.adam_params))
        if gradient is not None and model.trainer.parameters is not None:
            tenant.recorder.optimizer_states.append(
                OptimizerState(model.model_id, body.seq_id, gradient, model.trainer.parameters)
            )
        return Result({"metrics": dict(metrics), "type": "optim_step"}) if metrics else _NO_METRICS

    return operate(call, "optim_step", body.model_id, body.seq_id, effect)


def _pass(call: Call, model_id: str, seq_id: int | None, loss_fn: str, *, forward_only: bool) -> Reply:
    batch, problem = call.decoded.batch, call.decoded.problem
    assert batch is not None, "the route table says where the data is"
    integers = call.tenant.script.outputs.integers

    def effect(model: Model) -> Outcome:
        if loss_fn != "cross_entropy":
            raise UncomputableError(f"loss_fn {loss_fn!r} is not computed by this server, only 'cross_entropy' is")
        if problem is not None:
            raise UncomputableError(problem)
        run = model.trainer.forward if forward_only else model.trainer.forward_backward
        return PassResult(run(batch), integers)

    return operate(call, "forward" if forward_only else "forward_backward", model_id, seq_id, effect)


@lru_cache(maxsize=256)
def _step_params(sent: requests.AdamParams | None) -> StepParams:
    if sent is None:
        return StepParams()
    return StepParams(**{name: value for name, value in asdict(sent).items() if value is not None})

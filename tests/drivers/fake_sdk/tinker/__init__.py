"""A stand-in for the official SDK that needs no server, to see what its driver does in cases no release shows.

The name of the base model says how it behaves. It prints on import, as an SDK should not.
"""

# ruff: noqa: ARG002, RSE102 - signatures are the SDK's; what is raised is made by a call

import asyncio
import json
import os
import sys
import threading
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import torch

print("an SDK that prints")  # noqa: T201 - what this stand-in is for
os.write(1, b"and writes to fd 1\n")


class TinkerError(Exception):
    """Root of the SDK's errors."""


class APIStatusError(TinkerError):
    """An HTTP status."""


class APIConnectionError(TinkerError):
    """Connection trouble."""


class APITimeoutError(APIConnectionError):
    """A request that took too long."""


class APIResponseValidationError(TinkerError):
    """A response of another shape."""


class RequestFailedError(TinkerError):
    """A failed operation."""


class TensorData:
    """Flat data with a dtype and a shape."""

    def __init__(self, data, dtype, shape):
        self.data, self.dtype, self.shape = data, dtype, shape

    def to_torch(self):
        """Return a tensor."""
        return torch.tensor(self.data, dtype=getattr(torch, self.dtype)).reshape(self.shape)


class Datum:
    """Inputs as given: what they were given as is for the test to see."""

    def __init__(self, model_input, loss_fn_inputs):
        self.model_input, self.loss_fn_inputs = model_input, loss_fn_inputs
        given = {name: type(value).__name__ + repr(value)[:40] for name, value in loss_fn_inputs.items()}
        self.given = {name: text for name, text in given.items() if not text.startswith("TensorData")}


class ModelInput:
    """Tokens."""

    def __init__(self, tokens):
        self.tokens = tokens

    @classmethod
    def from_ints(cls, tokens):
        """Keep the tokens."""
        return cls(tokens)

    def to_ints(self):
        """Return the tokens."""
        return self.tokens


class AdamParams:
    """Whatever was given."""

    def __init__(self, **params):
        self.params = params


types = SimpleNamespace(Datum=Datum, ModelInput=ModelInput, TensorData=TensorData, AdamParams=AdamParams)


class Answer:
    """A result."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


def now(result):
    """Return a future that is done."""
    future = Future()
    future.set_result(result)
    return future


class Unending:
    """A call that never ends, with the standard future of the SDK's futures."""

    def __init__(self):
        self.standard = Future()

    def future(self):
        """Return what can be cancelled."""
        return self.standard

    def result(self):
        """Wait."""
        return self.standard.result()


class Client:
    """Behaves as the base model's name says."""

    def __init__(self, behaviour):
        self.behaviour = behaviour
        self.model_id = {
            "environment": json.dumps(dict(os.environ)),
            "modules": json.dumps(sorted(sys.modules)),
            "path": json.dumps(sys.path),
        }.get(behaviour, "model")

    def forward(self, data, loss_fn):
        """Tell what the datums were given as, or raise."""
        if self.behaviour in ERRORS:
            raise ERRORS[self.behaviour]()
        if self.behaviour == "unending":
            return Unending()
        if self.behaviour == "uncancellable":
            return SimpleNamespace(result=lambda: Answer())
        if self.behaviour == "threads":
            ORDER.append(threading.current_thread().name)
            return now(Answer(metrics={repr(ORDER): 1.0}))
        return now(Answer(model_id=json.dumps([datum.given for datum in data] + [loss_fn])))

    def forward_backward(self, data, loss_fn):
        """Give odd outputs and metrics."""
        odd = np.array([[1.0, -0.0], [np.nan, np.inf]], dtype=np.float32)
        output = {
            "logprobs": TensorData(odd.reshape(-1).tolist(), "float32", [2, 2]),
            "flat": TensorData([2**60, 1], "int64", None),
        }
        metrics = {
            "nan": float("nan"),
            "none": None,
            "tensor": torch.tensor(2.0),
            "large": 2**60,
            "true": True,
            "x": 0.5,
        }
        return now(Answer(loss_fn_outputs=[output], metrics=metrics))

    def forward_backward_custom(self, data, callback):
        """Call the loss, more than once or with changed data if told so."""
        leaves = [torch.tensor([-0.5, -0.25], requires_grad=True) for _ in data]
        if self.behaviour == "copies":
            leaves = [leaf * 1 for leaf in leaves]
        if self.behaviour == "uncalled":
            raise ValueError("refused")
        for _ in range(2 if self.behaviour == "twice" else 1):
            try:
                callback(data, leaves)
            except Exception as error:
                raise RuntimeError("wrapped") from error
        if self.behaviour == "changes":
            data[0].loss_fn_inputs["target_tokens"].data[0] = 99
        if self.behaviour == "extends":
            data.append(data[0])
        return now(Answer(metrics={}))

    def optim_step(self, params):
        """Show the parameters."""
        return now(Answer(metrics={repr(params.params): 1.0}))

    def save_state(self, name):
        """Give a path, or none."""
        return now(Answer(path=None if self.behaviour == "pathless" else f"tinker://{name}"))

    def load_state(self, path):
        """Give the path back."""
        return now(Answer(path=path))

    load_state_with_optimizer = load_state
    save_weights_for_sampler = save_state

    def get_info(self):
        """Wait for ever."""
        threading.Event().wait()

    async def forward_async(self, data, loss_fn):
        """Raise at once, or after a turn of the loop."""
        if self.behaviour == "unending":
            await asyncio.Event().wait()
        if self.behaviour == "late":
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        raise RequestFailedError(self.behaviour)

    async def optim_step_async(self, params):
        """Note the order of the first parts of two calls."""
        ORDER.append(params.params["learning_rate"])
        await asyncio.sleep(0)
        return asyncio.ensure_future(asyncio.sleep(0, Answer(metrics={repr(ORDER): 1.0})))

    forward_backward_async = forward_backward_custom_async = forward_async
    save_state_async = load_state_async = load_state_with_optimizer_async = forward_async
    save_weights_for_sampler_async = forward_async


ORDER = []


def caused(error, cause):
    """Return a factory of an error that was raised from another."""

    def make():
        error.__cause__ = cause
        return error

    return make


ERRORS = {
    "http_status": APIStatusError,
    "http_status-wrapped": caused(ValueError("Error retrieving result"), APIStatusError()),
    "transport": APIConnectionError,
    "transport-os": ConnectionResetError,
    "timeout": APITimeoutError,
    "timeout-builtin": TimeoutError,
    "request_failed": RequestFailedError,
    "cancelled": asyncio.CancelledError,
    "bad_output": APIResponseValidationError,
    "bad_output-key": lambda: KeyError("logprobs"),
    "bad_output-zip": lambda: ValueError("zip() argument 2 is shorter than argument 1"),
    "invalid_input": lambda: ValueError("No data provided"),
    "invalid_input-key": lambda: KeyError("target_tokens"),
    "invalid_input-type": lambda: TypeError("what is this"),
    "client_poisoned": caused(
        RuntimeError("this TrainingClient is poisoned and cannot accept further requests."), APIStatusError()
    ),
    "no_gradient": lambda: ValueError("No gradient computed for logprob tensor"),
    "not_scalar": lambda: RuntimeError("grad can be implicitly created only for scalar outputs"),
}


class ServiceClient:
    """Makes clients."""

    def __init__(self, base_url, api_key):
        self.closed = []
        assert base_url.startswith("http")
        assert api_key.startswith("tml-")

    def create_lora_training_client(self, base_model, rank, seed):
        """Make a client, or fail."""
        if base_model == "uncreatable":
            raise RequestFailedError("no such model")
        return Client(base_model)

    def close(self, reason):
        """Close, if the reason is the one that is documented."""
        assert reason == "success"
        return now(None)

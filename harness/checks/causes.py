"""The closed list of causes: why a check fails, as far as the two traces tell.

A cause is a stable code. It is `certain` when the traces show the thing itself (a key that is missing, an id that two
requests carry) and `likely` when what was observed follows from it, but could have come about in another way (one
number that happens to be another chunk's). docs/causes.md is written from this list.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from msgspec import Struct

Certainty = Literal["certain", "likely"]


class Cause(Struct, frozen=True):
    """One way to go wrong.

    `title` is a few words for a report, `says` what was seen and how it is told from other things, `look` where in an
    SDK the mistake usually is, `levels` with which certainty it can be told.
    """

    code: str
    title: str
    says: str
    look: str
    levels: tuple[Certainty, ...]


class Found(Struct, frozen=True):
    """A cause that was found: its code, how sure that is, and the particulars (`observed = 3 x golden`)."""

    code: str
    certainty: Certainty
    detail: str = ""


def certain(code: str, detail: str = "") -> Found:
    """Return a cause that the traces show. KeyError when there is no such code."""
    return Found(CAUSES[code].code, "certain", detail)


def likely(code: str, detail: str = "") -> Found:
    """Return a cause that would explain what was observed. KeyError when there is no such code."""
    return Found(CAUSES[code].code, "likely", detail)


def told(code: str, detail: str = "", *, sure: bool) -> Found:
    """Return a cause, certain or likely."""
    return certain(code, detail) if sure else likely(code, detail)


_C: tuple[Certainty, ...] = ("certain",)
_L: tuple[Certainty, ...] = ("likely",)
_B: tuple[Certainty, ...] = ("certain", "likely")

_NUMBERS = (
    Cause(
        "opposite-sign",
        "the opposite sign",
        "Every number is the negative of golden's. Certain when the numbers differ from each other.",
        "Weights are minus the gradient of the loss; look where the gradient becomes weights.",
        _B,
    ),
    Cause(
        "scaled-by-n",
        "scaled by the number of datums",
        "Every number is golden's times, or divided by, the number of datums of its call. Certain when calls of "
        "different size were seen and that number is not also the length of each datum, otherwise the factor may have "
        "another origin.",
        "A mean over datums where a sum is meant, or a sum where the loss already takes the mean.",
        _B,
    ),
    Cause(
        "scaled",
        "scaled by a constant",
        "Every number is golden's times one factor, which the detail names.",
        "A loss scale, a learning rate or a normalisation that is applied once too often, or not at all.",
        _B,
    ),
    Cause(
        "mean-for-sum",
        "a mean where golden sums",
        "The numbers of each datum are golden's divided by the length of that datum.",
        "A mean over tokens before the gradient is taken.",
        _C,
    ),
    Cause(
        "sum-for-mean",
        "a sum where golden takes the mean",
        "The numbers of each datum are golden's times the length of that datum.",
        "A missing division by the number of tokens.",
        _C,
    ),
    Cause(
        "shifted",
        "shifted by one position",
        "Within each datum the numbers are golden's, one position late or early. Certain when different numbers of "
        "a datum of three or more show it: in two, a shift and a reversal look alike.",
        "Targets are the tokens shifted by one: look where a slice is taken a second time.",
        _B,
    ),
    Cause(
        "wrong-datum",
        "numbers of another datum",
        "The numbers of a datum are those golden has for another one, or all numbers are there and dealt otherwise.",
        "The order in which results of chunks are put together, and the split of a flat gradient.",
        _B,
    ),
    Cause(
        "values-reordered",
        "the same values in another order",
        "Within a datum the values are golden's in another order.",
        "A transposed or reshaped tensor, a sort.",
        _B,
    ),
    Cause(
        "zeros-for-values",
        "zeros where golden has numbers",
        "What differs is zero in the observed trace.",
        "A gradient that was never filled in, or a detached tensor.",
        _C,
    ),
    Cause(
        "zeros-for-missing-gradient",
        "zeros for a missing gradient",
        "Golden raises because a datum, or the loss, has no gradient; the subject sends a backward pass whose weights "
        "for some datum are all zero.",
        "`grad is None` replaced by zeros. The official SDK raises.",
        _C,
    ),
    Cause(
        "default-filled",
        "a default filled in",
        "Golden leaves a value null, or all zero; the subject fills it with one constant.",
        "Defaults that the client spells out where the service has its own.",
        _B,
    ),
    Cause(
        "not-finite",
        "NaN or infinity",
        "There is a NaN or an infinity where golden has numbers.",
        "An overflow, log(0) or 0/0 on the way.",
        _C,
    ),
    Cause(
        "finite-for-not-finite",
        "numbers where golden has NaN or infinity",
        "Golden's numbers are not finite, the observed ones are.",
        "A clamp, nan_to_num, or a JSON writer that replaces what JSON cannot spell.",
        _C,
    ),
    Cause(
        "rounded",
        "rounded to fewer bits",
        "The numbers are golden's after a round trip through the type that the detail names.",
        "A tensor in half precision on the way.",
        _L,
    ),
)

_CHUNKS = (
    Cause(
        "cut-off-by-one",
        "cut one too early or too late",
        "Cutting at one datum more, or less, than the limit gives exactly the observed requests; or the first cut is "
        "one datum beside golden's.",
        "`>` against `>=` where datums are counted.",
        _B,
    ),
    Cause(
        "limit-exclusive",
        "cut when the limit is reached",
        "Cutting when a limit of bytes is reached gives the observed requests; the contract cuts when it is passed.",
        "`>=` where bytes are compared.",
        _L,
    ),
    Cause(
        "bytes-per-element",
        "another estimate of bytes",
        "Another estimate of bytes for a token or number gives exactly the observed requests.",
        "The estimate changed in 0.25.0, from ten bytes for everything to the bytes of the protobuf encoding.",
        _L,
    ),
    Cause(
        "limit-differs",
        "another limit of datums",
        "Cutting at another number of datums gives the observed requests, or the first cut is elsewhere.",
        "The constant, or a limit of client/config that is ignored or misread.",
        _B,
    ),
    Cause(
        "not-cut",
        "not cut at all",
        "One request carries what golden sends in several.",
        "Chunking is missing, or the limit was never looked at in this pass.",
        _C,
    ),
    Cause(
        "forward-cut-kept",
        "the backward pass is cut like the forward pass",
        "The observed backward pass has the cuts of the forward pass; golden's has its own.",
        "Weights change the size of a datum. Releases differ: 0.15.0 cuts the backward pass anew, 0.38.0 does not.",
        _C,
    ),
    Cause(
        "backward-cut-anew",
        "the backward pass is cut anew",
        "Golden's backward pass has the cuts of the forward pass; the observed one has its own.",
        "Releases differ: 0.38.0 sends the backward pass in the chunks of the forward pass, 0.15.0 does not.",
        _C,
    ),
    Cause(
        "chunk-empty",
        "a request without data",
        "A pass request carries no datum.",
        "A cut before the first datum when that datum alone is over the limit, or after the last.",
        _C,
    ),
    Cause(
        "not-sent",
        "not sent",
        "Something golden sends is missing: a datum, an operation, a request of a session.",
        "A last chunk that is dropped, a call that returns early, a route that is never called.",
        _C,
    ),
    Cause(
        "sent-twice",
        "sent twice",
        "The same datum or operation is sent again under an id of its own.",
        "A retry that takes a new id, overlapping chunks.",
        _C,
    ),
    Cause(
        "sent-besides",
        "sent and not in golden",
        "Something is sent that golden does not send at all.",
        "An extra call, data that the caller did not give.",
        _C,
    ),
    Cause(
        "reordered",
        "in another order",
        "Everything is there, in another order than golden's; where it is about chunks, one at a time.",
        "A set or a dictionary on the way, results taken as they come.",
        _C,
    ),
)

_ORDER = (
    Cause(
        "ids-start-elsewhere",
        "ids start elsewhere",
        "The first seq_id of a model is not golden's.",
        "The service counts from 1.",
        _C,
    ),
    Cause(
        "ids-not-rising",
        "ids do not rise with the data",
        "A later chunk of a call has a lower id than an earlier one.",
        "Ids taken when a chunk is sent, instead of when the call is made.",
        _C,
    ),
    Cause(
        "id-missing",
        "no seq_id",
        "A request carries no seq_id where golden's does.",
        "The service then executes it when it arrives, out of turn.",
        _C,
    ),
    Cause(
        "id-added",
        "a seq_id too many",
        "A request carries a seq_id where golden's does not.",
        "An id that is taken for a request outside the order leaves others waiting.",
        _C,
    ),
    Cause(
        "id-reused",
        "an id is used twice",
        "Two different requests of one model carry the same seq_id.",
        "A counter without a lock, or an id that is given back after a failure.",
        _C,
    ),
    Cause(
        "id-skipped",
        "an id is left out",
        "No request carries an id between the lowest and the highest, so that the service waits for it.",
        "An id that was reserved and not used: after a failed loss, or for a chunk that is empty.",
        _B,
    ),
    Cause(
        "overtaken",
        "overtaken",
        "Operations take effect, or are sent, after others that golden puts behind them. Likely where an optimizer "
        "step met another gradient because of it.",
        "The backward pass takes its ids only when the loss is done, so that the next call gets the lower id; or calls "
        "that are not awaited take their ids in processes that race each other.",
        _B,
    ),
    Cause(
        "not-awaited",
        "sent before its turn",
        "A request is sent while an earlier one that golden waits for is unanswered.",
        "The queue of the client's requests.",
        _C,
    ),
    Cause(
        "chunks-in-parallel",
        "chunks are sent side by side",
        "The chunks of a call are in flight together where golden sends one after the other, or lets one wait.",
        "Releases differ: 0.15.0 sends one after the other, 0.38.0 the first chunk last unless told otherwise.",
        _C,
    ),
    Cause(
        "chunks-in-turn",
        "chunks are sent one after the other",
        "The first chunk of a call is sent first, where golden sends it after the others.",
        "Releases differ: 0.15.0 sends one after the other, 0.38.0 the first chunk last unless told otherwise.",
        _C,
    ),
)

_WIRE = (
    Cause(
        "json-for-protobuf",
        "JSON where the contract sends protobuf",
        "A pass is sent as JSON; golden sends protobuf.",
        "Releases from 0.25.0 send passes as protobuf only.",
        _C,
    ),
    Cause(
        "protobuf-for-json",
        "protobuf where the contract sends JSON",
        "A pass is sent as protobuf; golden sends JSON.",
        "Releases to 0.24.1 send passes as JSON.",
        _C,
    ),
    Cause(
        "key-dropped",
        "a key is left out",
        "A key that golden has is missing.",
        "A serialiser that leaves out defaults, or a field nobody copies.",
        _C,
    ),
    Cause("key-added", "a key too many", "There is a key that golden has not.", "A field of another release.", _C),
    Cause(
        "key-renamed",
        "a key under another name",
        "Golden's value is there under another key.",
        "A field that is named otherwise on the wire than in the SDK.",
        _B,
    ),
    Cause(
        "input-leaked",
        "an input of the caller leaked",
        "The backward pass carries an input of the caller that golden keeps back.",
        "The backward pass has target_tokens and weights only; do not copy loss_fn_inputs.",
        _C,
    ),
    Cause(
        "null-for-absent",
        "null where golden has nothing",
        "A key is sent with null; golden leaves it out.",
        "A serialiser that writes None.",
        _C,
    ),
    Cause(
        "absent-for-null",
        "nothing where golden has null",
        "A key is left out that golden sends with null.",
        "A serialiser that drops None.",
        _C,
    ),
    Cause(
        "value-changed",
        "another value",
        "One key of a body, of a header or of a result has another value.",
        "A default of another release, a constant, a unit.",
        _C,
    ),
    Cause(
        "type-changed",
        "another type",
        "A result has a type of another name; the detail names both.",
        "A result that is handed on as it was decoded, or a class that was renamed.",
        _C,
    ),
    Cause(
        "header-missing",
        "a header is missing",
        "A header that the contract requires was not sent.",
        "Requests that are made beside the client's common path.",
        _C,
    ),
    Cause(
        "header-added",
        "a header of another era",
        "A header that names the SDK and its method, which the contract does not know, was sent.",
        "The release that is driven, against the contract it is judged by.",
        _C,
    ),
    Cause(
        "polled-otherwise",
        "results are asked for in another way",
        "The request type, Accept or body keys of retrieve_future are not golden's.",
        "The service answers protobuf or JSON, metadata or result, by these.",
        _C,
    ),
    Cause(
        "polled-in-turn",
        "one result is asked for at a time",
        "A result was kept back until another one was delivered, and nobody asked for that one.",
        "A lock or a single worker around polling, or a loop that waits for results in the order of their calls.",
        _L,
    ),
    Cause(
        "not-understood",
        "the server cannot read it",
        "A path no release knows, or a body that cannot be decoded; the detail is the server's own code.",
        "docs/server.md says what is refused.",
        _C,
    ),
    Cause("dtype-changed", "another dtype", "A tensor has another dtype.", "A dtype taken from the values.", _C),
    Cause(
        "dtype-widened",
        "a wider dtype",
        "A tensor has a dtype of the same kind with more bits.",
        "Plain numbers are float64 and int64 in most libraries: convert before the request is built.",
        _C,
    ),
    Cause("flattened", "flattened", "A tensor has golden's numbers in one dimension.", "A reshape(-1), tolist().", _C),
    Cause(
        "unflattened",
        "not flattened",
        "A tensor keeps several dimensions where golden has its numbers in one.",
        "The shape the server names is kept, where the contract's release flattens.",
        _C,
    ),
    Cause("transposed", "transposed", "The two dimensions of a tensor are exchanged.", "Row- or column-major.", _C),
    Cause(
        "shape-unnamed",
        "no shape",
        "A tensor is sent without a shape where golden names one.",
        "The service then takes it for one-dimensional.",
        _C,
    ),
    Cause(
        "layout-changed",
        "dense for sparse, or sparse for dense",
        "The numbers are golden's in the other layout.",
        "From 0.18.0 mostly-zero two-dimensional weights travel as compressed sparse rows.",
        _C,
    ),
)

_RESULTS = (
    Cause(
        "reduction-unweighted",
        "a mean that is not weighted",
        "A metric is the plain mean over the chunks; golden weights by their size.",
        "Chunks of 1024 and 1 count the same.",
        _L,
    ),
    Cause(
        "reduction-changed",
        "another reduction",
        "A metric is another reduction of what the server answered for each chunk; the detail names it.",
        "The reduction follows the suffix of the metric's name.",
        _L,
    ),
    Cause(
        "hash-changed",
        "another hash",
        "A metric that is a hash has another value: hash functions of languages differ.",
        "Nothing to mend unless values are compared between languages.",
        _C,
    ),
    Cause(
        "suffix-off-by-one",
        "a number in a name is off by one",
        "Names of metrics end in numbers that are one higher or lower than golden's.",
        "Unique metrics of later chunks are numbered; look where the count starts.",
        _C,
    ),
    Cause(
        "own-loss-vs-surrogate",
        "own loss and surrogate exchanged",
        "`loss:sum` has golden's value of `surrogate_loss:sum`, or the other way round. Certain when both stand "
        "exchanged: one number may be the other by chance.",
        "The server computes the surrogate; the caller's own loss takes its place in the result.",
        _B,
    ),
    Cause(
        "follows",
        "follows from another difference",
        "The server computed this from what it was sent, or the loss from what the server answered, and that is not "
        "golden's; the detail names the check that says why. Certain where a metric is what the server answered.",
        "Mend what the named check finds: this goes with it.",
        _B,
    ),
    Cause("not-called", "not called", "The loss is not called where golden calls it.", "An early return.", _C),
    Cause(
        "called-too-often",
        "called too often",
        "The loss is called more often than in golden.",
        "A call per chunk or per datum, or a second one for the metrics.",
        _C,
    ),
    Cause(
        "left-running",
        "left running",
        "A part of the loss goes on when the call that it belongs to is over.",
        "What has not ended is not cancelled when another part fails.",
        _C,
    ),
    Cause(
        "tensors-merged",
        "one tensor for all datums",
        "The loss sees one tensor where golden's sees one for each datum.",
        "Logprobs that are concatenated or padded.",
        _C,
    ),
    Cause(
        "not-leaves",
        "not leaves",
        "The tensors the loss sees are computed from others, so that their gradient is not kept.",
        "requires_grad must be set after every conversion.",
        _C,
    ),
    Cause(
        "outputs-reordered",
        "outputs of chunks in another order",
        "The values are what the server sent, put together in another order.",
        "Results of chunks have to be put together by their data, not as they arrive.",
        _C,
    ),
    Cause(
        "outputs-lost",
        "only some outputs",
        "There are fewer outputs than datums.",
        "Only one chunk's result is returned.",
        _C,
    ),
    Cause(
        "data-mutated",
        "the caller's data is changed",
        "After the call the caller's data is not what it was.",
        "Weights written into the caller's own datums.",
        _C,
    ),
    Cause(
        "data-copied",
        "the loss gets a copy",
        "What the loss writes into its data does not reach the caller's.",
        "A copy of the datums, made for the callback.",
        _C,
    ),
    Cause(
        "raised",
        "an error",
        "The call fails where golden's does not, or with another error; the detail is what it said.",
        "The message, then the exchange.",
        _C,
    ),
    Cause(
        "error-swallowed",
        "an error is swallowed",
        "The call succeeds where golden's fails.",
        "A check that is missing: a gradient, a scalar, a usable metric.",
        _C,
    ),
    Cause(
        "raised-elsewhere",
        "raised elsewhere",
        "The error comes from the call where golden's comes from waiting, or the other way round.",
        "What runs when the call is made, and what later.",
        _C,
    ),
    Cause(
        "sent-after-failure",
        "sent after a failure",
        "Operations are sent that golden does not send because the call has failed.",
        "The failure has to end the call before its next request.",
        _C,
    ),
    Cause(
        "still-waiting",
        "still waiting",
        "A call never returns; the detail says what its last request was, what became of it, and where the program "
        "stands.",
        "A result that is never asked for or never handed on, a turn that never comes.",
        _C,
    ),
    Cause(
        "hangs-after-failure",
        "hangs after a failure",
        "A call after the failed one never returns.",
        "Requests take turns: the turns of what is never sent have to pass, or the client has to refuse.",
        _C,
    ),
    Cause(
        "not-poisoned",
        "goes on after a failure",
        "The client works where the contract refuses: ids of the failed call are missing.",
        "0.38.0 refuses every further request of a training client after a failed custom call.",
        _C,
    ),
    Cause(
        "poisoned",
        "refuses after a failure",
        "The client refuses where the contract goes on.",
        "Releases to 0.25.0 go on after a failed custom call.",
        _C,
    ),
)

_FAULTS = (
    Cause(
        "fault-not-met",
        "a fault that was not met",
        "The request that a scripted fault waits for was not sent, or not as often as golden sends it.",
        "What the client does instead: the other checks of the scenario judge a run without the fault.",
        _C,
    ),
)

_AGAIN = (
    Cause(
        "gives-up-early",
        "gives up early",
        "A request, or a poll, is not sent again where golden sends it; the detail names the last answer.",
        "The list of statuses, or the number of attempts.",
        _B,
    ),
    Cause(
        "sent-too-often",
        "sent too often",
        "A request, or a poll, is sent again where golden does not, or more often; the detail names the answer "
        "that should have ended it.",
        "The list of statuses, or the number of attempts; a failure that is final.",
        _C,
    ),
    Cause(
        "waits-too-short",
        "does not wait",
        "The next attempt comes before the least of the contract's delay.",
        "The backoff, and Retry-After in its three spellings.",
        _C,
    ),
    Cause(
        "waits-too-long",
        "waits too long",
        "The next attempt comes long after the most of the contract's delay.",
        "The backoff; seconds and milliseconds.",
        _C,
    ),
    Cause(
        "beats-go-on",
        "heartbeats outlive their session",
        "The service has said that the session is over, and heartbeats go on.",
        "The statuses that end the heartbeat's loop.",
        _C,
    ),
    Cause(
        "beats-end",
        "heartbeats end",
        "After one heartbeat that failed no other comes: the service will take the session for abandoned.",
        "An exception that ends the heartbeat's task.",
        _C,
    ),
    Cause(
        "sent-after-close",
        "sent after close",
        "A client that its user has closed goes on sending.",
        "The tasks that close() cancels: heartbeats, polls, refreshes.",
        _C,
    ),
    Cause(
        "resend-changed",
        "another body",
        "An attempt carries another body or other data than the first.",
        "What is encoded again for each attempt.",
        _C,
    ),
    Cause(
        "resend-new-key",
        "another idempotency key",
        "An attempt has another idempotency key where golden keeps it.",
        "The key belongs to the request, not to the attempt.",
        _C,
    ),
    Cause(
        "key-reused",
        "an idempotency key is used twice",
        "Different requests, or polls that do not repeat each other, carry the same idempotency key.",
        "A key that is made once for a client, or of something that requests have in common.",
        _C,
    ),
    Cause(
        "resend-new-id",
        "another seq_id",
        "What was not acknowledged is sent again as a new request.",
        "The id is taken before the first attempt.",
        _C,
    ),
    Cause(
        "effect-twice",
        "counted twice",
        "What was sent again took effect more than once.",
        "A resend has to be recognisable: the same seq_id.",
        _C,
    ),
    Cause(
        "polls-in-a-loop",
        "a tight loop",
        "A result is asked for more often in one second than the contract accepts.",
        "A delay between polls that a server answers at once.",
        _C,
    ),
)

_COMPOSED = (
    Cause(
        "regularizer-ignored",
        "the regularizers are ignored",
        "The weights that are sent, the total or its norm are those of the base alone, as the graphs computed in "
        "float64 tell.",
        "An option that is accepted and never used; a total that is reported and not differentiated.",
        _L,
    ),
    Cause(
        "base-ignored",
        "the base is ignored",
        "The weights that are sent, or the total, are those of the regularizers alone.",
        "A sum that starts with the first regularizer.",
        _L,
    ),
    Cause(
        "part-without-gradient",
        "a regularizer that has no gradient",
        "The weights that are sent, or the norm of the whole, are those without some regularizers, which the detail "
        "names; the others count. Weights without the gradient of any regularizer are `regularizer-ignored`.",
        "A value that is constant where it is differentiated: computed beside the graph, detached, or replaced while "
        "the function is traced. A regularizer that is left out of the sum.",
        _L,
    ),
    Cause(
        "weight-not-applied",
        "weights are not applied",
        "Regularizers count as if every weight were 1.",
        "The value where the contribution is meant.",
        _L,
    ),
    Cause(
        "weight-applied-twice",
        "weights are applied twice",
        "Regularizers count with the square of their weight.",
        "A contribution that is weighted once more where it is added up.",
        _L,
    ),
    Cause(
        "weight-in-value",
        "a weighted value",
        "The value of a regularizer is golden's contribution.",
        "A value is reported before weighting.",
        _L,
    ),
    Cause(
        "norm-of-other-weighting",
        "norms before and after weighting exchanged",
        "A norm before weighting is golden's after it, or the other way round.",
        "grad_norm is of the value, grad_norm_weighted of the contribution.",
        _L,
    ),
    Cause(
        "norms-added",
        "a sum of norms",
        "The norm of the whole is the sum of the norms of its parts.",
        "The total norm is that of the composed loss's gradient: parts may point apart.",
        _L,
    ),
    Cause(
        "completion-order",
        "in the order of completion",
        "The regularizers stand in the order in which they end.",
        "Results that are collected as they come. They follow the declaration.",
        _L,
    ),
    Cause(
        "report-missing",
        "no report",
        "The call ended well and gave no report, or no flat form of it.",
        "A custom call that takes regularizers and tells nothing of them.",
        _C,
    ),
    Cause(
        "name-lost",
        "the error does not tell which part",
        "The error names no part, or not which regularizer.",
        "A timeout or an exit that is reported as it comes, without the name of who caused it.",
        _C,
    ),
)

CAUSES: Mapping[str, Cause] = MappingProxyType(
    {cause.code: cause for cause in (*_NUMBERS, *_CHUNKS, *_ORDER, *_AGAIN, *_WIRE, *_RESULTS, *_COMPOSED, *_FAULTS)}
)
"""Every cause by its code, in the order of the documentation."""

FAMILIES: Mapping[str, tuple[Cause, ...]] = MappingProxyType(
    {
        "Numbers": _NUMBERS,
        "Cuts and completeness": _CHUNKS,
        "Order": _ORDER,
        "Attempts and polls": _AGAIN,
        "Requests and tensors": _WIRE,
        "Results and errors": _RESULTS,
        "Regularizers": _COMPOSED,
        "Faults": _FAULTS,
    }
)
"""The causes under the headings of docs/causes.md."""

"""The structured custom loss: a base loss and named, weighted regularizers (`docs/regularizers.md`).

`spec` is what the caller writes, `calling`, `stepping` and `results` get values out of it, `composing` adds them up and
differentiates, `norms` measures gradients, `telemetry` and `flat` report; `pipeline` does all of it in a row.
`gradients` has ways to a gradient for losses that autograd cannot follow, `builtins` ready-made regularizers as loss
graphs.
"""

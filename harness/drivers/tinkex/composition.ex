defmodule Parity.Tinkex.Composition do
  @moduledoc """
  A loss taken apart, as the SDK takes it: a base function, and a specification for each regularizer.

  The custom call hands the functions one tensor per datum; the offline pipeline takes one tensor for the whole batch.
  Every asynchronous form is the only one the SDK has: a function that returns a task. Where a regularizer has an
  `adapter`, the SDK's own one is handed over instead of its graph.
  """

  alias Parity.Tinkex.{Callback, Convert, Probe, ReadyMade, Spelling}
  alias Tinkex.Regularizer.Pipeline
  alias Tinkex.Types.RegularizerSpec

  @doc "The loss function and the options of a custom call, as the SDK's examples print them."
  def arguments(table, %{"id" => id} = step, loss) do
    if in_parts?(loss) do
      [base(table, id, loss, :given), options(table, step, loss, :given)]
    else
      [Callback.new(table, {id, :base}, whole(loss))]
    end
  end

  @doc "Computes the composition offline. Each datum has its logprobs in the input that the step names."
  def compute(table, %{"id" => id} = step, loss, data) do
    pieces = Enum.map(data, &Convert.tensor(&1.loss_fn_inputs[step["logprobs"] || "logprobs"]))
    logprobs = pieces |> Enum.reject(&(&1 == :empty)) |> Enum.map(&Nx.flatten/1) |> Nx.concatenate()
    shapes = Enum.map(pieces, &if(&1 == :empty, do: :empty, else: Nx.shape(&1)))
    timeout = for seconds <- List.wrap(step["regularizer_timeout"]), do: {:timeout, round(seconds * 1000)}
    Pipeline.compute(data, logprobs, base(table, id, loss, shapes), options(table, step, loss, shapes) ++ timeout)
  end

  @doc "What the loss function of a step saw: the base, or the first regularizer where there is none."
  def saw(table, id, loss) do
    keys = if in_parts?(loss), do: keys(id, loss), else: [{{id, :base}, nil}]
    first = with [{key, _name} | _] <- keys, do: key
    terms = for {{_id, index} = key, name} when index != :base <- keys, do: {key, name}
    saw = Callback.saw(table, first)

    if in_parts?(loss) do
      later = for term <- get_in(loss, ["apart", "regularizers"]) || [], asynchronous?(term), do: term["name"]

      Map.merge(saw, %{
        regularizers: Map.new(terms, fn {key, name} -> {name, Callback.calls(table, key)} end),
        ended: for({key, name} <- terms, name in later, into: %{}, do: {name, Callback.ended(table, key)})
      })
    else
      saw
    end
  end

  @doc "What a part of a step's loss raised, or nil."
  def raised(table, id, loss) do
    Enum.find_value([{{id, :base}, nil} | keys(id, loss)], fn {key, _name} -> Callback.raised(table, key) end)
  end

  defp in_parts?(loss), do: loss["apart"] != nil and not folded?(loss) and Probe.regularizers?()

  defp folded?(loss), do: get_in(loss, ["apart", "folded"]) == true

  # One callback that adds the regularizers up itself, as a user of this SDK writes it.
  defp whole(%{"apart" => %{"folded" => true} = apart} = loss) do
    parts = for term <- apart["regularizers"] || [], do: {part(loss, term), Spelling.unspell(term["weight"], "float32")}
    Map.merge(loss, %{"loss" => apart["base"], "added" => parts})
  end

  # One callback stands for the parts: it fails as any of them does.
  defp whole(loss) do
    terms = get_in(loss, ["apart", "regularizers"]) || []
    Map.put(loss, "fail", loss["fail"] || Enum.find_value(terms, & &1["fail"]))
  end

  # Under which keys the parts are noted: the base first, if there is one.
  defp keys(id, loss) do
    apart = loss["apart"] || %{}
    terms = for {term, index} <- Enum.with_index(apart["regularizers"] || []), do: {{id, index}, term["name"]}
    if apart["base"], do: [{{id, :base}, nil} | terms], else: terms
  end

  # Without a base there is no function: what the SDK makes of that is for the SDK to say.
  defp base(table, id, %{"apart" => apart} = loss, shapes) do
    own = %{"loss" => apart["base"], "returns" => apart["base_returns"]}
    if apart["base"], do: Callback.new(table, {id, :base}, Map.merge(loss, own), shapes)
  end

  # An argument that was left out is left out.
  defp options(table, %{"id" => id} = step, %{"apart" => apart} = loss, shapes) do
    terms = apart["regularizers"]
    specifications = terms && Enum.with_index(terms, &specification(table, {id, &2}, &1, loss, shapes))
    norms = if step["track_grad_norms"], do: [track_grad_norms: true], else: []
    if terms, do: [{:regularizers, specifications} | norms], else: norms
  end

  defp asynchronous?(term), do: (term["form"] || "sync") != "sync"

  # A regularizer's graph, or the SDK's own function for it.
  defp part(loss, term) do
    adapter = if ReadyMade.has?(term["adapter"]), do: term["adapter"]
    Map.merge(loss, %{"loss" => term["node"], "metrics" => term["metrics"], "adapter" => adapter})
  end

  # Made by the SDK's own constructor: what it refuses, it raises here, as in its caller's code.
  defp specification(table, {id, _index} = key, term, loss, shapes) do
    after_key = Enum.find_value(keys(id, loss), fn {other, name} -> if name == term["after"], do: other end)

    own = %{
      "fail" => term["fail"],
      "delay_seconds" => term["delay_seconds"],
      "hangs" => term["hangs"],
      "after" => after_key,
      "returns" => term["returns"]
    }

    plain = Callback.new(table, key, Map.merge(part(loss, term), own), shapes)
    asynchronous = asynchronous?(term)

    RegularizerSpec.new(
      fn: if(asynchronous, do: fn data, logprobs -> Task.async(fn -> plain.(data, logprobs) end) end, else: plain),
      weight: Spelling.unspell(term["weight"], "float32"),
      name: term["name"],
      async: asynchronous
    )
  end
end

defmodule Parity.Tinkex.Callback do
  @moduledoc """
  The loss functions handed to the SDK: each evaluates a graph of the scenario and notes what it was given.

  They are called in processes of the SDK's, with numbers and traced. What is noted goes into the run's table, under the
  function's key.
  """

  alias Parity.Tinkex.{Convert, Graph, ReadyMade, Spelling}

  @patience_ms 3_000
  @pause_ms 5

  @doc """
  A function of data and logprobs that evaluates `loss`: its graph, or the SDK's own regularizer that `adapter` names.
  `added` are parts with weights that it adds to what the graph gives.

  `shapes` are `:given` where the SDK hands over one tensor per datum. Where it hands over one for the whole batch they
  are the shapes to cut it into, and metrics are numbers, as its adapters return them: none while it is traced.
  """
  def new(table, key, loss, shapes \\ :given) do
    fn data, logprobs ->
      :ets.update_counter(table, {:calls, key}, 1, {{:calls, key}, 0})
      call = {:running, key, make_ref()}
      :ets.insert(table, {call, self()})
      pieces = pieces(logprobs, shapes)
      # A traced tensor has no values: the last call that has some is described.
      unless traced?(pieces), do: :ets.insert(table, {{:saw, key}, describe(data, pieces)})

      try do
        Process.sleep(if(loss["hangs"], do: :infinity, else: round((loss["delay_seconds"] || 0) * 1000)))
        {value, metrics} = evaluate(loss, data, pieces)
        if loss["after"], do: wait_for(table, loss["after"], @patience_ms)
        returned(loss["returns"], value, metrics(metrics, loss, traced?(pieces), shapes))
      rescue
        error ->
          :ets.insert(table, {{:raised, key}, error})
          reraise error, __STACKTRACE__
      after
        :ets.delete(table, call)
        :ets.insert(table, {{:ended, key}, true})
      end
    end
  end

  defp pieces(logprobs, :given), do: List.wrap(logprobs)

  defp pieces(logprobs, shapes) do
    {pieces, _used} =
      Enum.map_reduce(shapes, 0, fn
        :empty, from ->
          {:empty, from}

        shape, from ->
          {logprobs |> Nx.slice([from], [Tuple.product(shape)]) |> Nx.reshape(shape), from + Tuple.product(shape)}
      end)

    pieces
  end

  defp wait_for(table, key, left) do
    cond do
      lookup(table, {:ended, key}) -> :ok
      left <= 0 -> raise "the regularizer that was waited for has not ended"
      true -> Process.sleep(@pause_ms) && wait_for(table, key, left - @pause_ms)
    end
  end

  # What the SDK's own regularizer returns is handed on.
  defp metrics(metrics, %{"adapter" => %{}}, _traced, _shapes), do: metrics
  defp metrics(metrics, %{"numbers" => true}, _traced, _shapes), do: Map.new(metrics, &to_number/1)
  defp metrics(metrics, _loss, _traced, :given), do: metrics
  defp metrics(_metrics, _loss, true, _shapes), do: %{}
  defp metrics(metrics, _loss, false, _shapes), do: Map.new(metrics, &to_number/1)

  defp returned("loss", value, _metrics), do: value
  defp returned("triple", value, metrics), do: {value, metrics, "a third thing"}
  defp returned("nothing", _value, _metrics), do: nil
  defp returned("number", value, metrics), do: {Nx.to_number(value), metrics}
  defp returned("texts", value, metrics), do: {value, Map.new(metrics, fn {name, _} -> {name, "a text"} end)}
  defp returned(_pair, value, metrics), do: {value, metrics}

  defp evaluate(%{"added" => parts} = loss, data, logprobs) do
    {value, metrics} = loss |> Map.delete("added") |> evaluate(data, logprobs)

    total =
      Enum.reduce(parts, value, fn {part, weight}, total ->
        Nx.add(total, Nx.multiply(weight, elem(evaluate(part, data, logprobs), 0)))
      end)

    {total, metrics}
  end

  defp evaluate(%{"adapter" => %{} = adapter}, data, logprobs), do: ReadyMade.compute(adapter, data, logprobs)

  defp evaluate(loss, data, logprobs) do
    logprobs = List.wrap(logprobs)
    # As far as both go: what an SDK does with fewer logprobs than datums is for the SDK to say.
    fields =
      [data, logprobs]
      |> Enum.zip()
      |> Enum.with_index()
      |> Enum.map(fn {{datum, _}, index} -> &Convert.field(datum, index, &1) end)

    Graph.evaluate(loss, logprobs, fields)
  end

  defp to_number({name, tensor}), do: {name, Nx.to_number(tensor)}

  @doc "What the loss function under a key saw, in the protocol's words."
  def saw(table, key) do
    described =
      lookup(table, {:saw, key}) ||
        %{datums: 0, count: 0, dtypes: [], shapes: [], digest: Spelling.digest(""), keys: []}

    # Terms cannot change, and Nx has no leaves.
    Map.merge(described, %{calls: calls(table, key), leaves: nil, unchanged: true})
  end

  @doc "How often the function under a key was called."
  def calls(table, key), do: lookup(table, {:calls, key}) || 0

  @doc "How many of these calls have ended. A process that was killed has ended, too."
  def ended(table, key) do
    running = for [pid] <- :ets.match(table, {{:running, key, :_}, :"$1"}), Process.alive?(pid), do: pid
    calls(table, key) - length(running)
  end

  @doc "What the function under a key raised last, or nil."
  def raised(table, key), do: lookup(table, {:raised, key})

  defp lookup(table, key) do
    case :ets.lookup(table, key) do
      [{_key, value}] -> value
      [] -> nil
    end
  end

  defp traced?(logprobs), do: Enum.any?(logprobs, &match?(%Nx.Tensor{data: %Nx.Defn.Expr{}}, &1))

  defp describe(data, logprobs) do
    %{
      datums: length(data),
      count: length(logprobs),
      dtypes: Enum.map(logprobs, &dtype/1),
      shapes: Enum.map(logprobs, &if(&1 == :empty, do: [0], else: Tuple.to_list(Nx.shape(&1)))),
      digest: logprobs |> Enum.reject(&(&1 == :empty)) |> Enum.map(&raw/1) |> Spelling.digest(),
      keys: Enum.map(data, &(&1.loss_fn_inputs |> Map.keys() |> Enum.sort()))
    }
  end

  defp raw(tensor), do: tensor |> Nx.to_flat_list() |> Spelling.raw("float32")

  defp dtype(:empty), do: "float32"

  defp dtype(tensor) do
    case Nx.type(tensor) do
      {:f, bits} -> "float#{bits}"
      {:s, bits} -> "int#{bits}"
      {:u, bits} -> "uint#{bits}"
      other -> inspect(other)
    end
  end
end

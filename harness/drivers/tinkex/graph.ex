defmodule Parity.Tinkex.GraphError do
  @moduledoc "The graph does not fit the data it is evaluated on, or is not a graph."
  defexception [:message]
end

defmodule Parity.Tinkex.Graph do
  @moduledoc """
  Evaluates a loss graph (`docs/losses.md`) with plain Nx operations: the body of the loss function.

  The same code serves the call with numbers and the call that `Nx.Defn.grad` traces. Therefore every constant, field
  and index tensor is built here, inside the call: a tensor from outside cannot be mixed with traced ones in every
  operation. Nothing is converted to a number: a traced tensor has none.

  Logprobs are tensors of float32. A datum without elements is given as `:empty`, because Nx has no such tensors.
  """

  alias Parity.Tinkex.GraphError

  @type fields :: [(String.t() -> Nx.Tensor.t() | :empty)]

  @doc """
  Returns the loss and the metrics, both as tensors.

  `fields` has, for each datum, a function from the name of an input to its flat float32 tensor. Raises `RuntimeError`
  with the message of `fail` when the loss has one, and `GraphError` when the graph does not fit the data.
  """
  @spec evaluate(map(), [Nx.Tensor.t() | :empty], fields()) :: {Nx.Tensor.t(), map()}
  def evaluate(%{"fail" => message}, _logprobs, _fields) when is_binary(message), do: raise(message)

  def evaluate(loss, logprobs, fields) do
    inputs = %{logprobs: logprobs, fields: fields, lengths: Enum.map(logprobs, &size/1)}

    values =
      loss["nodes"]
      |> Enum.with_index()
      |> Enum.reduce(%{}, fn {[op | arguments], index}, values ->
        Map.put(values, index, node(op, arguments, values, inputs))
      end)

    metrics = Map.new(loss["metrics"] || %{}, fn {name, index} -> {name, values[index]} end)
    {values[loss["loss"]], metrics}
  end

  @doc """
  Returns the loss, the metrics and, per datum, the gradient: a tensor, `:empty`, or nil without a path to the loss.

  Nx gives zeros where there is no path; which datums have one is read from the graph.
  """
  def value_and_gradients(loss, logprobs, fields) do
    {value, metrics} = evaluate(loss, logprobs, fields)
    present = Enum.reject(logprobs, &(&1 == :empty))
    gradients = gradients(present, fn traced -> elem(evaluate(loss, put_back(logprobs, traced), fields), 0) end)
    reached = reached(loss)

    told =
      logprobs
      |> put_back(gradients)
      |> Enum.with_index()
      |> Enum.map(fn {gradient, datum} -> if reached == :all or datum in reached, do: gradient end)

    {value, metrics, told}
  end

  defp gradients([], _function), do: []

  defp gradients(present, function) do
    present
    |> List.to_tuple()
    |> Nx.Defn.grad(fn traced -> function.(Tuple.to_list(traced)) end)
    |> Tuple.to_list()
  end

  defp put_back(logprobs, tensors) do
    {parts, []} =
      Enum.map_reduce(logprobs, tensors, fn
        :empty, rest -> {:empty, rest}
        _, [tensor | rest] -> {tensor, rest}
      end)

    parts
  end

  # --- which datums a differentiable path reaches -------------------------------------------------------------------

  @opaque_operations ~w(stop_grad gt ge lt le)

  defp reached(loss) do
    sets =
      loss["nodes"]
      |> Enum.with_index()
      |> Enum.reduce(%{}, fn {node, index}, sets -> Map.put(sets, index, reached(node, sets)) end)

    sets[loss["loss"]]
  end

  defp reached(["lps"], _sets), do: :all
  defp reached(["lp", datum], _sets), do: MapSet.new([datum])
  defp reached([op | _], _sets) when op in ["fields", "lens", "field", "const"], do: MapSet.new()
  defp reached([op | _], _sets) when op in @opaque_operations, do: MapSet.new()
  defp reached(["where", _condition, a, b], sets), do: union(sets[a], sets[b])
  defp reached([op, a | _], sets) when op in ["take", "pow", "clip"], do: sets[a]
  defp reached([_op | arguments], sets), do: arguments |> Enum.map(&sets[&1]) |> Enum.reduce(&union/2)

  defp union(:all, _), do: :all
  defp union(_, :all), do: :all
  defp union(a, b), do: MapSet.union(a, b)

  # --- leaves ---------------------------------------------------------------------------------------------------------

  defp node("lps", [], _values, inputs), do: concatenate(Enum.map(inputs.logprobs, &flat/1))

  defp node("fields", [key], _values, inputs) do
    parts = Enum.map(inputs.fields, & &1.(key))

    [parts, inputs.lengths]
    |> Enum.zip()
    |> Enum.with_index()
    |> Enum.each(fn {{part, length}, datum} ->
      if size(part) != length do
        raise GraphError, "field #{inspect(key)} of datum #{datum} has #{size(part)} values, its logprobs #{length}"
      end
    end)

    concatenate(parts)
  end

  defp node("lens", [], _values, inputs), do: Nx.tensor(inputs.lengths, type: {:f, 32})
  defp node("lp", [datum], _values, inputs), do: flat(at(inputs.logprobs, datum))
  defp node("field", [datum, key], _values, inputs), do: at(inputs.fields, datum).(key)
  defp node("const", [value], _values, _inputs), do: Nx.tensor(value, type: {:f, 32})

  # --- ragged operations, and those that take literals ----------------------------------------------------------------

  defp node("seg_sum", [a], values, inputs), do: segment_sums(values[a], inputs)

  defp node("seg_mean", [a], values, inputs) do
    # A datum without tokens has mean 0: its sum, 0, is divided by 1 instead of by 0.
    counts = Nx.tensor(Enum.map(inputs.lengths, &max(&1, 1)), type: {:f, 32})
    Nx.divide(segment_sums(values[a], inputs), counts)
  end

  defp node("expand", [a], values, inputs) do
    same_length(size(values[a]), length(inputs.lengths))
    Nx.take(values[a], segments(inputs))
  end

  defp node("take", [a, indices], values, _inputs) do
    count = size(values[a])

    for index <- indices, index not in 0..(count - 1)//1 do
      raise GraphError, "take: no element #{index}: there are #{count}"
    end

    Nx.take(values[a], Nx.tensor(indices, type: {:s, 64}))
  end

  defp node("pow", [a, power], values, _inputs), do: Nx.pow(values[a], whole(power))

  # Never Nx.clip: its gradient is wrong in Nx 0.11.
  defp node("clip", [a, low, high], values, _inputs) do
    Nx.min(Nx.max(values[a], scalar(low)), scalar(high))
  end

  # --- operations on tensors only -------------------------------------------------------------------------------------

  defp node("where", [condition, a, b], values, _inputs) do
    [condition, a, b] = same_shapes([values[condition], values[a], values[b]])
    shape = Enum.find([condition, a, b], a, &(Nx.shape(&1) != {})) |> Nx.shape()
    Nx.select(Nx.broadcast(Nx.not_equal(condition, scalar(0)), shape), Nx.broadcast(a, shape), Nx.broadcast(b, shape))
  end

  defp node(op, [a], values, _inputs), do: unary(op, values[a])

  defp node(op, [a, b], values, _inputs) do
    [a, b] = same_shapes([values[a], values[b]])
    binary(op, a, b)
  end

  defp node(op, _arguments, _values, _inputs), do: raise(GraphError, "unknown operation #{inspect(op)}")

  defp unary("neg", a), do: Nx.negate(a)
  defp unary("abs", a), do: Nx.abs(a)
  defp unary("exp", a), do: Nx.exp(a)
  defp unary("log", a), do: Nx.log(a)
  defp unary("log1p", a), do: Nx.log1p(a)
  defp unary("expm1", a), do: Nx.expm1(a)
  defp unary("sqrt", a), do: Nx.sqrt(a)
  defp unary("square", a), do: Nx.multiply(a, a)
  defp unary("recip", a), do: Nx.divide(scalar(1), a)
  defp unary("sigmoid", a), do: Nx.sigmoid(a)
  defp unary("tanh", a), do: Nx.tanh(a)
  defp unary("sin", a), do: Nx.sin(a)
  defp unary("cos", a), do: Nx.cos(a)
  defp unary("softplus", a), do: Nx.log1p(Nx.exp(a))
  defp unary("logsigmoid", a), do: Nx.negate(Nx.log1p(Nx.exp(Nx.negate(a))))
  defp unary("relu", a), do: Nx.max(a, scalar(0))
  defp unary("sum", :empty), do: scalar(0)
  defp unary("sum", a), do: Nx.sum(a)
  defp unary("mean", a), do: Nx.mean(a)
  defp unary("rmax", a), do: Nx.reduce_max(a)
  defp unary("rmin", a), do: Nx.reduce_min(a)
  defp unary("logsumexp", a), do: Nx.logsumexp(a)
  defp unary("var", a), do: Nx.variance(a)
  defp unary("log_softmax", a), do: Nx.subtract(a, Nx.logsumexp(a))
  defp unary("softmax", a), do: Nx.exp(Nx.subtract(a, Nx.logsumexp(a)))
  defp unary("cumsum", a), do: Nx.cumulative_sum(a)

  # Outside of a trace it would make an expression that no later operation can compute.
  defp unary("stop_grad", %Nx.Tensor{data: %Nx.Defn.Expr{}} = a), do: Nx.Defn.Kernel.stop_grad(a)
  defp unary("stop_grad", a), do: a
  defp unary(op, _a), do: raise(GraphError, "unknown operation #{inspect(op)}")

  defp binary("add", a, b), do: Nx.add(a, b)
  defp binary("sub", a, b), do: Nx.subtract(a, b)
  defp binary("mul", a, b), do: Nx.multiply(a, b)
  defp binary("div", a, b), do: Nx.divide(a, b)
  defp binary("max", a, b), do: Nx.max(a, b)
  defp binary("min", a, b), do: Nx.min(a, b)
  defp binary("gt", a, b), do: Nx.as_type(Nx.greater(a, b), {:f, 32})
  defp binary("ge", a, b), do: Nx.as_type(Nx.greater_equal(a, b), {:f, 32})
  defp binary("lt", a, b), do: Nx.as_type(Nx.less(a, b), {:f, 32})
  defp binary("le", a, b), do: Nx.as_type(Nx.less_equal(a, b), {:f, 32})
  defp binary("dot", a, b), do: Nx.dot(a, b)
  defp binary(op, _a, _b), do: raise(GraphError, "unknown operation #{inspect(op)}")

  # --- tensors --------------------------------------------------------------------------------------------------------

  defp size(:empty), do: 0
  defp size(tensor), do: Nx.size(tensor)

  defp flat(:empty), do: :empty
  defp flat(tensor), do: Nx.flatten(tensor)

  defp scalar(value), do: Nx.tensor(value, type: {:f, 32})

  defp whole(value) when is_float(value) and trunc(value) == value, do: trunc(value)
  defp whole(value), do: value

  defp at(list, index) do
    if index in 0..(length(list) - 1)//1 do
      Enum.at(list, index)
    else
      raise GraphError, "no datum #{index}: there are #{length(list)}"
    end
  end

  defp concatenate(parts) do
    case Enum.reject(parts, &(&1 == :empty)) do
      [] -> :empty
      [part] -> part
      several -> Nx.concatenate(several)
    end
  end

  defp segments(inputs) do
    inputs.lengths
    |> Enum.with_index()
    |> Enum.flat_map(fn {length, datum} -> List.duplicate(datum, length) end)
    |> Nx.tensor(type: {:s, 64})
  end

  defp segment_sums(a, inputs) do
    same_length(size(a), Enum.sum(inputs.lengths))
    zeros = Nx.broadcast(scalar(0), {length(inputs.lengths)})
    if a == :empty, do: zeros, else: Nx.indexed_add(zeros, Nx.new_axis(segments(inputs), -1), a)
  end

  defp same_length(count, needed) do
    if count != needed, do: raise(GraphError, "#{count} values where #{needed} are needed")
  end

  # What Nx would broadcast is refused: all operands that are not scalars have one shape.
  defp same_shapes(tensors) do
    case tensors |> Enum.map(&Nx.shape/1) |> Enum.reject(&(&1 == {})) |> Enum.uniq() do
      [_, _ | _] = shapes -> raise GraphError, "operands of lengths #{inspect(Enum.map(shapes, &elem(&1, 0)))}"
      _ -> tensors
    end
  end
end

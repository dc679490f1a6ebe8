defmodule Parity.Tinkex.Convert do
  @moduledoc "Between the line and the SDK: datums as a caller would write them, results as the caller sees them."

  alias Parity.Tinkex.Spelling
  alias Tinkex.Types.{Datum, ModelInput, TensorData}

  @doc "Reads a tensor of the line, inline or from its file: its elements, dtype, shape and container."
  def read_tensor(%{"dtype" => dtype, "shape" => shape} = wire) do
    raw =
      if wire["file"] do
        bytes = Enum.product(shape) * if(dtype == "int64", do: 8, else: 4)
        {:ok, file} = :file.open(wire["file"], [:read, :raw, :binary])
        raw = if bytes == 0, do: "", else: elem(:file.pread(file, wire["offset"] || 0, bytes), 1)
        :ok = :file.close(file)
        raw
      else
        Spelling.raw(Enum.map(wire["data"], &Spelling.unspell(&1, dtype)), dtype)
      end

    %{raw: raw, dtype: dtype, shape: shape, container: wire["container"] || "tensor"}
  end

  def read_tensor(numbers) when is_list(numbers) do
    read_tensor(%{"dtype" => "float32", "shape" => [length(numbers)], "data" => numbers})
  end

  @doc "The tensor in Nx; `:empty` where it has no elements, which Nx cannot hold."
  def to_nx(%{raw: ""}), do: :empty

  def to_nx(%{raw: raw, dtype: dtype, shape: shape}) do
    type = if dtype == "int64", do: {:s, 64}, else: {:f, 32}
    raw |> Nx.from_binary(type) |> Nx.reshape(List.to_tuple(shape))
  end

  @doc "Builds the SDK's datum from one of the line. What the SDK refuses, it raises here, as in its caller's code."
  def build_datum(%{"tokens" => tokens, "inputs" => inputs}) do
    Datum.new(%{
      model_input: tokens |> read_tensor() |> elements() |> ModelInput.from_ints(),
      loss_fn_inputs: Map.new(inputs, fn {name, wire} -> {name, contained(read_tensor(wire))} end)
    })
  end

  defp contained(%{container: "native"} = tensor), do: to_nx(tensor)

  defp contained(%{container: "list"} = tensor) do
    tensor |> elements() |> whole() |> nested(Enum.drop(tensor.shape, 1))
  end

  defp contained(tensor) do
    # One of two names that are written here, never a name from the line.
    dtype = if tensor.dtype == "int64", do: :int64, else: :float32
    %TensorData{data: elements(tensor), dtype: dtype, shape: tensor.shape}
  end

  defp elements(tensor), do: Spelling.elements(tensor.raw, tensor.dtype)

  # Whole numbers as integers if all are whole, as a caller writes them.
  defp whole(values) do
    if Enum.all?(values, &(is_float(&1) and trunc(&1) == &1 and Spelling.spell(&1) != "-0.0")) do
      Enum.map(values, &trunc/1)
    else
      values
    end
  end

  defp nested(values, []), do: values

  defp nested(values, [size | rest]) do
    width = Enum.product([size | rest])
    values |> Enum.chunk_every(width) |> Enum.map(&nested(&1, rest))
  end

  @doc "An input of a datum as a flat float32 tensor, built where it is called: inside the loss."
  def field(%Datum{loss_fn_inputs: inputs}, datum, key) do
    case inputs[key] do
      nil -> raise Parity.Tinkex.GraphError, "datum #{datum} has no field #{inspect(key)}"
      %TensorData{data: []} -> :empty
      %TensorData{data: data} -> Nx.tensor(data, type: {:f, 32})
    end
  end

  @doc "An input of a datum as the tensor it is; `:empty` where it has no elements."
  def tensor(%TensorData{data: []}), do: :empty
  def tensor(%TensorData{} = input), do: TensorData.to_nx(input)

  @doc "The SDK's document of a composition, as its own encoder writes it, numbers spelled for the line."
  def report(output), do: output |> Jason.encode!() |> Jason.decode!(objects: :ordered_objects) |> spelled()

  defp spelled(%Jason.OrderedObject{values: values} = object) do
    %{object | values: Enum.map(values, fn {key, value} -> {key, spelled(value)} end)}
  end

  defp spelled(list) when is_list(list), do: Enum.map(list, &spelled/1)
  defp spelled(value) when is_number(value), do: Spelling.spell(value)
  defp spelled(value), do: value

  @doc "Describes a result: its type, and outputs, metrics, path and report where it has them."
  def describe_result(%{__struct__: Tinkex.Types.CustomLossOutput} = output) do
    %{type: type_name(output), report: report(output)}
  end

  def describe_result(result) when is_struct(result) or is_map(result) do
    %{type: type_name(result)}
    |> put_if(:outputs, outputs(get(result, :loss_fn_outputs)))
    |> put_if(:metrics, metrics(get(result, :metrics)))
    |> put_if(:fields, fields(result))
  end

  def describe_result(result) when is_pid(result), do: %{type: "TrainingClient"}
  def describe_result(result), do: %{type: inspect(result)}

  defp type_name(%module{}), do: module |> Module.split() |> List.last()
  defp type_name(_map), do: "map"

  # Some results are structs, others the decoded JSON.
  defp get(%_{} = result, key), do: Map.get(result, key)
  defp get(result, key), do: result[Atom.to_string(key)]

  defp outputs(nil), do: nil

  defp outputs(list),
    do: Enum.map(list, fn output -> Map.new(output, fn {name, value} -> {name, summarise(value)} end) end)

  # Outputs come as the decoded JSON of the response.
  defp summarise(%{"data" => data} = tensor) do
    dtype = tensor["dtype"] || "float32"
    raw = Spelling.raw(data, dtype)

    %{
      dtype: dtype,
      shape: tensor["shape"] || [length(data)],
      digest: Spelling.digest(raw),
      first: Spelling.first(raw, dtype)
    }
  end

  defp metrics(nil), do: nil
  defp metrics(map), do: Map.new(map, fn {name, value} -> {to_string(name), Spelling.spell(value)} end)

  defp fields(result) do
    for key <- [:path, :model_id], value = get(result, key), is_binary(value), into: %{}, do: {key, value}
  end

  defp put_if(told, _key, nothing) when nothing in [nil, %{}], do: told
  defp put_if(told, key, value), do: Map.put(told, key, value)
end

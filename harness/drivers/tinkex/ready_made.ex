defmodule Parity.Tinkex.ReadyMade do
  @moduledoc """
  The SDK's own regularizers, called as its documentation calls them: `Module.compute(data, logprobs, options)`.

  They take one tensor for the whole batch. What they return goes back as it is, values, gradients and metrics. Every
  option is given, so that nothing depends on what a release takes for granted.
  """

  alias Tinkex.Regularizers


  @modules %{
    "l1" => Regularizers.L1,
    "l2" => Regularizers.L2,
    "elastic_net" => Regularizers.ElasticNet,
    "entropy" => Regularizers.Entropy,
    "kl_divergence" => Regularizers.KLDivergence,
    "consistency" => Regularizers.Consistency,
    "gradient_penalty" => Regularizers.GradientPenalty,
    "orthogonality" => Regularizers.Orthogonality
  }

  @doc "Whether the compiled SDK has any."
  def any?, do: @modules |> Map.keys() |> Enum.any?(&has?(%{"kind" => &1}))

  @doc "Whether the compiled SDK has the one that `adapter` names: the graph stands for one that it has not."
  def has?(%{"kind" => kind}) do
    module = @modules[kind]
    module != nil and Code.ensure_loaded?(module) and function_exported?(module, :compute, 3)
  end

  def has?(nil), do: false

  @doc "The value and the metrics of the regularizer that `adapter` names, of the logprobs of all datums."
  def compute(adapter, data, pieces) do
    logprobs = tensor(adapter, Enum.reject(pieces, &(&1 == :empty)))
    @modules[adapter["kind"]].compute(data, logprobs, options(adapter))
  end

  # Orthogonality is between the rows of a matrix: a datum each. The others take all logprobs, one after the other.
  defp tensor(%{"kind" => "orthogonality"}, pieces), do: pieces |> Enum.map(&Nx.flatten/1) |> Nx.stack()
  defp tensor(_adapter, pieces), do: pieces |> Enum.map(&Nx.flatten/1) |> Nx.concatenate()

  defp options(%{"kind" => "l1"} = given), do: sizes(given)
  defp options(%{"kind" => "l2"} = given), do: [center: center(given["center"])] ++ sizes(given)
  defp options(%{"kind" => "elastic_net"} = given), do: [l1_ratio: given["l1_ratio"]] ++ sizes(given)
  defp options(%{"kind" => "orthogonality"}), do: [mode: :soft, normalize: true]

  defp options(%{"kind" => "entropy"} = given) do
    [mode: one_of(given["mode"], [:minimize, :maximize]), reduction: :mean, normalize: false, temperature: 1.0]
  end

  defp options(%{"kind" => "kl_divergence"} = given) do
    direction = one_of(given["direction"], [:forward, :reverse])
    [reference_field: given["reference"], direction: direction, symmetric: given["symmetric"], reduction: :mean]
  end

  defp options(%{"kind" => "consistency"} = given) do
    metric = one_of(given["metric"], [:mse, :l1, :cosine])
    [pair_field: given["reference"], metric: metric, reduction: reduction(given)]
  end

  defp options(%{"kind" => "gradient_penalty"} = given) do
    squares = fn x -> Nx.sum(Nx.multiply(x, x)) end
    [mode: :output, loss_fn: squares, target_norm: given["target_norm"]]
  end

  defp sizes(given), do: [target: one_of(given["target"], [:logprobs, :probs]), reduction: reduction(given)]

  defp reduction(given), do: one_of(given["reduction"], [:sum, :mean])

  defp center("mean"), do: :mean
  defp center(number), do: number

  # An atom that is written here, never one of the line.
  defp one_of(text, atoms) do
    Enum.find(atoms, &(Atom.to_string(&1) == text)) || raise(ArgumentError, "unknown option #{inspect(text)}")
  end
end

defmodule Parity.Tinkex.Probe do
  @moduledoc "What the compiled SDK is and can do, found by looking at it: no release is named here."

  alias Parity.Tinkex.ReadyMade
  alias Tinkex.{ServiceClient, TrainingClient}

  @calls [
    forward: 3,
    forward_backward: 3,
    forward_backward_custom: 3,
    optim_step: 2,
    save_state: 2,
    load_state: 2,
    load_state_with_optimizer: 2,
    save_weights_for_sampler: 2,
    get_info: 1
  ]

  @doc "The names of what scenarios may ask for."
  def capabilities do
    calls = for {name, arity} <- @calls, exported?(TrainingClient, name, arity), do: Atom.to_string(name)
    created = if exported?(ServiceClient, :create_lora_training_client, 3), do: ["create_model"], else: []
    # Calls return tasks, so that a program is concurrent by not awaiting them; a client is a process and is stopped.
    # A loss cannot change its data: nothing can.
    Enum.sort(calls ++ created ++ regularizers() ++ ~w(cancel close concurrent exit idle loss_delay telemetry thread))
  end

  @doc "Whether the SDK's documentation has the custom call take regularizers: where it has a type for them."
  def regularizers?, do: exported?(Tinkex.Types.RegularizerSpec, :new, 1)

  # The report keeps them in a map, so that its user sees no order; there is no flat form.
  defp regularizers do
    train = if regularizers?(), do: ["regularizers.train"], else: []
    offline = exported?(Tinkex.Regularizer.Pipeline, :compute, 4)
    adapters = if ReadyMade.any?(), do: ["regularizers.adapters"], else: []
    if offline, do: ["regularizers.compute", "regularizers.timeout"] ++ train ++ adapters, else: train ++ adapters
  end

  @doc "Name, version, entry file and digest of the compiled SDK."
  def sdk do
    file = TrainingClient |> :code.which() |> List.to_string()
    %{name: "tinkex", version: version(:tinkex), file: file, digest: digest(Path.dirname(file))}
  end

  @doc "The release of the official SDK that the compiled SDK says it has parity with."
  def parity_version do
    if exported?(Tinkex.Version, :tinker_sdk, 0), do: Tinkex.Version.tinker_sdk(), else: ""
  end

  @doc "The versions of all applications that run."
  def libraries do
    for {name, _description, version} <- Application.started_applications(), into: %{} do
      {Atom.to_string(name), List.to_string(version)}
    end
  end

  defp exported?(module, name, arity), do: Code.ensure_loaded?(module) and function_exported?(module, name, arity)

  defp version(application), do: application |> Application.spec(:vsn) |> List.to_string()

  # Over the names and contents of all compiled modules.
  defp digest(directory) do
    for(name <- directory |> File.ls!() |> Enum.sort(), do: [name, File.read!(Path.join(directory, name))])
    |> then(&:crypto.hash(:sha256, &1))
    |> Base.encode16(case: :lower)
  end
end

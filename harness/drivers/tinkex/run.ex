defmodule Parity.Tinkex.Run do
  @moduledoc """
  Runs the steps of one `run` command on the SDK, as a user's script would.

  The steps run in a process of their own, which owns the SDK's tasks; the process that answers collects what it tells
  and gives up at the timeout. Only what the SDK raises, returns or exits with becomes the error of a step; what fails
  in the driver itself ends the process of the steps and is raised here.
  """

  alias Parity.Tinkex.{Composition, Convert, ErrorKinds, ModelThread, Stacks}
  alias Tinkex.{Config, ServiceClient, TrainingClient}
  alias Tinkex.Types.AdamParams

  @close "close"
  @exit "exit"
  @steps ~w(await cancel close compute_regularizers create_model exit forward forward_backward forward_backward_custom
            get_info idle load_state load_state_with_optimizer optim_step save_state save_weights_for_sampler)
  @with_loss ~w(compute_regularizers forward_backward_custom)

  @doc "Whether the program ends with this run."
  def ends?(command), do: match?(%{"do" => @exit}, List.last(command["steps"]))

  @doc "Runs for at most the command's timeout; returns one result per step with an id, and `close` or `exit`."
  def execute(command) do
    Enum.each(command["steps"], &check(&1, command))
    table = :ets.new(:parity_run, [:public])
    answering = self()
    {_steps, monitor} = spawn_monitor(fn -> work(command, table, &send(answering, &1)) end)
    deadline = System.monotonic_time(:millisecond) + round(command["timeout"] * 1000)
    results = collect(monitor, deadline, nil, %{})
    Process.demonitor(monitor, [:flush])
    told = told(command, table, results)
    :ets.delete(table)
    told
  end

  defp check(step, command) do
    if step["do"] not in @steps, do: raise(ArgumentError, "unknown step #{inspect(step["do"])}")
    ids = for %{"id" => id} <- command["steps"], do: id

    for {key, known} <- [
          {"data", Map.keys(command["data"])},
          {"loss", Map.keys(command["losses"])},
          {"of", ids},
          {"path_of", ids}
        ],
        Map.has_key?(step, key) and step[key] not in known do
      raise ArgumentError, "step #{inspect(step["do"])}: #{key} #{inspect(step[key])} is not there"
    end
  end

  # --- the process that answers ---------------------------------------------------------------------------------------

  defp collect(monitor, deadline, open, results) do
    receive do
      {:open, step, raised_at} -> collect(monitor, deadline, {step, raised_at}, results)
      {:result, step, nil} -> collect(monitor, deadline, nil, Map.put_new(results, step, %{status: "skipped"}))
      {:result, step, result} -> collect(monitor, deadline, nil, Map.put(results, step, result))
      {:DOWN, ^monitor, :process, _pid, :normal} -> results
      {:DOWN, ^monitor, :process, _pid, reason} -> raise "the steps failed: #{Exception.format_exit(reason)}"
    after
      max(0, deadline - System.monotonic_time(:millisecond)) -> given_up(open, results)
    end
  end

  defp given_up(nil, results), do: results

  defp given_up({step, raised_at}, results) do
    Map.put(results, step, %{status: "hang", raised_at: raised_at, stacks: Stacks.of_all()})
  end

  defp told(command, table, results) do
    last = if ends?(command), do: @exit, else: @close
    steps = for %{"id" => _} = step <- command["steps"], do: step

    for %{"do" => kind, "id" => id} = step <- steps ++ [%{"do" => last, "id" => last}] do
      result = results |> Map.get(id, %{status: "skipped"}) |> Map.put(:step, id)
      submitted = kind in @with_loss and :ets.member(table, {:submitted, id})
      loss = command["losses"][step["loss"]]
      if submitted, do: Map.put(result, :saw, Composition.saw(table, id, loss)), else: result
    end
  end

  # --- the process of the steps ---------------------------------------------------------------------------------------

  defp work(command, table, tell) do
    # The SDK links its tasks and clients to their caller; an SDK that crashes must not take the rest of the run along.
    Process.flag(:trap_exit, true)
    # All data is there before the first call: building it between two calls would let the first get ahead.
    data = Map.new(command["data"], fn {name, datums} -> {name, build(datums)} end)

    state = %{
      command: command,
      table: table,
      tell: tell,
      data: data,
      service: nil,
      closed: false,
      models: %{},
      threads: %{},
      tasks: %{},
      waiting: %{},
      paths: %{}
    }

    state = Enum.reduce(command["steps"], state, &step/2)
    if not state.closed and not ends?(command), do: step(%{"do" => @close}, state)
    for {_model, thread} <- state.threads, do: Process.exit(thread, :kill)
  end

  defp build(datums) do
    {:ok, Enum.map(datums, &Convert.build_datum/1)}
  rescue
    refused -> {:refused, refused}
  end

  defp step(%{"do" => "await", "of" => id}, state) do
    case Map.pop(state.waiting, id) do
      # It has its result: it failed when submitted, was skipped, or needs no await.
      {nil, _} ->
        state

      {wait, waiting} ->
        state = %{state | waiting: waiting}
        {_told, path} = attempt(state, id, "await", fn -> finished(wait.()) end)
        if path, do: put_in(state.paths[id], path), else: state
    end
  end

  # The task is what a user has to stop; nothing of the SDK's stops what it asked for.
  defp step(%{"do" => "cancel", "of" => id}, state) do
    case state.tasks[id] do
      nil -> state.tell.({:result, id, %{status: "skipped", message: "#{id} returned no task"}})
      task -> Process.exit(task.pid, :kill)
    end

    state
  end

  defp step(%{"do" => "idle", "seconds" => seconds}, state) do
    Process.sleep(round(seconds * 1000))
    state
  end

  defp step(%{"do" => @close}, state) do
    attempt(state, @close, "submit", fn -> close(state) end)
    %{state | closed: true}
  end

  defp step(%{"do" => @exit}, state) do
    state.tell.({:result, @exit, %{status: "ok"}})
    state
  end

  defp step(%{"do" => "create_model", "id" => id} = step, state) do
    case ensure_service(state, id) do
      {:ok, state} ->
        options = for {name, key} <- [rank: "rank", seed: "seed"], step[key] != nil, do: {name, step[key]}
        model = step["base_model"] || "parity/tiny-bigram"

        {told, _} =
          attempt(state, id, "submit", fn ->
            finished(ServiceClient.create_lora_training_client(state.service, model, options))
          end)

        case told do
          {:value, client} -> put_in(state.models[id], client)
          _ -> state
        end

      :failed ->
        state
    end
  end

  # No server has a part in it. In a process of its own, as the SDK links the tasks it makes to the caller: a user's
  # program ends with them.
  defp step(%{"do" => "compute_regularizers", "id" => id} = step, state) do
    case state.data[step["data"]] do
      {:ok, data} ->
        :ets.insert(state.table, {{:submitted, id}, true})
        loss = state.command["losses"][step["loss"]]

        attempt(state, id, "submit", fn ->
          finished(alone(fn -> Composition.compute(state.table, step, loss, data) end))
        end)

      {:refused, error} ->
        state.tell.({:result, id, failure(state, id, error, "submit")})
    end

    state
  end

  defp step(%{"id" => id} = step, state) do
    case Map.fetch(state.models, step["model"] || "model") do
      {:ok, client} ->
        submit(step["do"], step, client, state)

      :error ->
        state.tell.({:result, id, %{status: "skipped", message: "#{step["model"]} was not created"}})
        state
    end
  end

  defp submit("get_info", %{"id" => id}, client, state) do
    attempt(state, id, "submit", fn -> finished(TrainingClient.get_info(client)) end)
    state
  end

  defp submit(kind, %{"id" => id} = step, client, state) do
    case arguments(kind, step, state) do
      {:ok, arguments} ->
        call = fn -> apply(TrainingClient, String.to_existing_atom(kind), [client | arguments]) end
        if step["style"] == "thread", do: on_thread(step, call, state), else: at_once(id, call, state)

      {:refused, error} ->
        state.tell.({:result, id, failure(state, id, error, "submit")})
        state

      {:skipped, message} ->
        state.tell.({:result, id, %{status: "skipped", message: message}})
        state
    end
  end

  # Every call of the SDK is a task already, which is what it offers to concurrent programs too.
  defp at_once(id, call, state) do
    {told, _} =
      attempt(state, id, "submit", fn ->
        case call.() do
          {:ok, %Task{} = task} -> {:submitted, task}
          other -> finished(other)
        end
      end)

    case told do
      {:submitted, task} ->
        state = put_in(state.tasks[id], task)
        put_in(state.waiting[id], fn -> Task.await(task, :infinity) end)

      _ ->
        state
    end
  end

  defp on_thread(%{"id" => id, "model" => model}, call, state) do
    state = update_in(state.threads[model], &(&1 || ModelThread.start()))
    thread = state.threads[model]
    ModelThread.call(thread, id, call)
    state.tell.({:result, id, %{status: "unawaited"}})
    put_in(state.waiting[id], fn -> ModelThread.await(thread, id) end)
  end

  defp arguments(kind, step, state) when kind in ["forward", "forward_backward"] do
    with {:ok, data} <- state.data[step["data"]], do: {:ok, [data, step["loss_fn"] || "cross_entropy"]}
  end

  defp arguments("forward_backward_custom", %{"id" => id} = step, state) do
    with {:ok, data} <- state.data[step["data"]] do
      :ets.insert(state.table, {{:submitted, id}, true})
      {:ok, [data | Composition.arguments(state.table, step, state.command["losses"][step["loss"]])]}
    end
  rescue
    refused -> {:refused, refused}
  end

  defp arguments("optim_step", step, _state) do
    given = step["params"] || %{}
    named = for key <- Map.keys(%AdamParams{}), Map.has_key?(given, to_string(key)), do: {key, given[to_string(key)]}
    {:ok, [struct!(AdamParams, named)]}
  end

  defp arguments(kind, step, state) when kind in ["load_state", "load_state_with_optimizer"] do
    case state.paths[step["path_of"]] do
      nil -> {:skipped, "#{step["path_of"]} gave no path"}
      path -> {:ok, [path]}
    end
  end

  defp arguments(_save, step, _state), do: {:ok, [step["name"]]}

  defp ensure_service(%{service: nil, command: command} = state, id) do
    {told, _} =
      attempt(state, id, "submit", fn ->
        telemetry = get_in(command, ["client", "telemetry"]) == true

        config =
          Config.new(base_url: command["base_url"], api_key: command["api_key"], telemetry_enabled?: telemetry)

        case ServiceClient.start_link(config: config) do
          {:ok, service} -> {:made, service}
          other -> finished(other)
        end
      end)

    case told do
      {:made, service} -> {:ok, %{state | service: service}}
      _ -> :failed
    end
  end

  defp ensure_service(state, _id), do: {:ok, state}

  defp close(%{service: nil}), do: {:skipped, "no client was made"}

  defp close(%{service: service}) do
    :ok = GenServer.stop(service)
    :closed
  end

  # --- one call or one await ------------------------------------------------------------------------------------------

  # Tells the result, the error, or that the call is open; returns what the call gave, and a path if it has one.
  defp attempt(state, id, raised_at, action) do
    state.tell.({:open, id, raised_at})

    told =
      try do
        action.()
      rescue
        error -> {:failed, error}
      catch
        :exit, reason -> {:failed, {:exit, reason}}
        thrown -> {:failed, {:exit, {:nocatch, thrown}}}
      end

    result =
      case told do
        {:value, value} -> Map.put(Convert.describe_result(value), :status, "ok")
        {:submitted, _task} -> %{status: "unawaited"}
        {:made, _service} -> nil
        :closed -> %{status: "ok"}
        {:skipped, message} -> %{status: "skipped", message: message}
        {:failed, error} -> failure(state, id, error, raised_at)
      end

    state.tell.({:result, id, result})
    {told, result && result[:fields][:path]}
  end

  defp alone(action) do
    {pid, monitor} =
      spawn_monitor(fn ->
        exit({:told, try(do: action.(), rescue: (error -> {:error, error}))})
      end)

    receive do
      {:DOWN, ^monitor, :process, ^pid, {:told, told}} -> told
      {:DOWN, ^monitor, :process, ^pid, reason} -> {:error, {:exit, reason}}
    end
  end

  defp finished({:ok, value}), do: {:value, value}
  defp finished({:error, error}), do: {:failed, error}
  defp finished(other), do: {:value, other}

  defp failure(state, id, error, raised_at) do
    step = Enum.find(state.command["steps"], &(&1["id"] == id))
    loss = state.command["losses"][step["loss"]]

    told = %{
      status: "error",
      kind: ErrorKinds.kind_of(error, loss && Composition.raised(state.table, id, loss)),
      type: ErrorKinds.type_name(error),
      message: ErrorKinds.message(error),
      raised_at: raised_at
    }

    part = loss && loss["apart"] && ErrorKinds.part(error)
    if part, do: Map.put(told, :failed, part), else: told
  end
end

# The driver: answers the commands of parity's driver protocol.
#
# It creates models and asks about them, with the stand-in for an SDK in client.ex, and says that it can do nothing else.
# README.md says how it grows.

["json.ex", "client.ex"] |> Enum.map(&Path.join(__DIR__, &1)) |> Enum.each(&Code.require_file/1)

defmodule Driver do
  @contract "tinker-0.15.0"
  @capabilities ["create_model", "get_info"]

  # Commands come on descriptor 0, answers go to descriptor 3 (driver.sh). A line may come in many parts.
  def serve, do: loop(Port.open({:fd, 0, 3}, [:binary, :stream, :eof]), [])

  defp loop(port, parts) do
    receive do
      {^port, {:data, data}} ->
        [first | rest] = :binary.split(data, "\n", [:global])

        case Enum.split(rest, -1) do
          {_, []} ->
            loop(port, [first | parts])

          {lines, [begun]} ->
            Enum.each([IO.iodata_to_binary(Enum.reverse([first | parts])) | lines], &take(port, &1))
            loop(port, [begun])
        end

      # The runner is gone, and so is this program, whatever still runs.
      {^port, :eof} ->
        System.halt(0)

      {:answer, line} ->
        Port.command(port, [line, "\n"])
        loop(port, parts)
    end
  end

  defp take(port, line) do
    case JsonText.decode(line) do
      {:ok, %{"id" => id, "cmd" => "shutdown"}} ->
        Port.command(port, [JsonText.encode(%{id: id, ok: %{}}), "\n"])
        System.halt(0)

      {:ok, %{"id" => _, "cmd" => _} = command} ->
        service = self()
        # A process for each: the end of stdin is noticed during a run too.
        spawn(fn -> send(service, {:answer, answer(command)}) end)

      _ ->
        IO.puts(:stderr, "a line that is no command: #{inspect(binary_part(line, 0, min(200, byte_size(line))))}")
    end
  end

  # `driver_error` is for what this driver could not do, never for what the SDK raised.
  defp answer(%{"id" => id} = command) do
    JsonText.encode(%{id: id, ok: perform(command)})
  rescue
    error ->
      detail = Exception.format(:error, error, __STACKTRACE__)
      JsonText.encode(%{id: id, driver_error: %{code: "driver", message: Exception.message(error), detail: detail}})
  end

  defp perform(%{"cmd" => "hello", "nonce" => nonce}) do
    %{
      protocol: "1.3",
      nonce: nonce,
      sdk: %{name: "SDK_NAME", version: Client.version(), file: Path.join(__DIR__, "client.ex")},
      language: "elixir",
      runtime: "Elixir #{System.version()}, OTP #{System.otp_release()}",
      contract: @contract,
      capabilities: @capabilities,
      max_in_flight: 1
    }
  end

  defp perform(%{"cmd" => "run", "steps" => steps} = command) do
    case Enum.find(steps, &(&1["do"] not in ["await" | @capabilities])) do
      nil -> %{steps: Run.execute(command)}
      step -> raise ArgumentError, "no step #{inspect(step["do"])} here"
    end
  end

  # `evaluate` is needed once forward_backward_custom is among the capabilities, not before.
  defp perform(%{"cmd" => other}), do: raise(ArgumentError, "no command #{inspect(other)} here")
end

defmodule Run do
  # The steps of one scenario, in a process of their own for as long as there is time; what is still open then is a hang.
  def execute(%{"steps" => steps, "timeout" => timeout} = command) do
    runner = self()
    worker = spawn(fn -> work(command, runner) end)
    collect(worker, System.monotonic_time(:millisecond) + round(timeout * 1000), %{})
    |> results(steps)
  end

  defp collect(worker, deadline, told) do
    receive do
      {^worker, :done} -> told
      {^worker, name, result} -> collect(worker, deadline, Map.put(told, name, result))
    after
      max(deadline - System.monotonic_time(:millisecond), 0) ->
        Process.exit(worker, :kill)
        told
    end
  end

  defp results(told, steps) do
    for name <- Enum.flat_map(steps, &List.wrap(&1["id"])) ++ ["close"] do
      Map.merge(%{step: name, status: "skipped"}, Map.get(told, name, %{}))
    end
  end

  # One step after the other. An error is a result: the steps after it still run.
  defp work(command, runner) do
    Enum.reduce(command["steps"], {Client.new(command["base_url"], command["api_key"]), %{}}, fn step, {client, models} ->
      name = step["id"] || step["of"]
      send(runner, {self(), name, %{status: "hang", raised_at: "submit"}})
      {result, client, models} = attempt(step, client, models)
      send(runner, {self(), name, result})
      {client, models}
    end)

    send(runner, {self(), :done})
  end

  defp attempt(step, client, models) do
    perform(step, client, models)
  rescue
    error ->
      type = error.__struct__ |> Module.split() |> List.last()
      failed = %{status: "error", kind: kind_of(error), type: type, message: Exception.message(error), raised_at: "submit"}
      {failed, client, models}
  end

  defp perform(%{"do" => "create_model"} = step, client, models) do
    {model, client} = Client.create_model(client, step["base_model"], step["rank"], step["seed"])
    result = %{status: "ok", type: "TrainingClient", fields: %{model_id: model}}
    {result, client, Map.put(models, step["id"], model)}
  end

  defp perform(%{"do" => "get_info"} = step, client, models) do
    case Map.fetch(models, step["model"]) do
      {:ok, model} ->
        info = Client.get_info(client, model)
        {%{status: "ok", type: "GetInfoResponse", fields: %{model_id: info["model_id"]}}, client, models}

      :error ->
        {%{status: "skipped", message: "the model was not created"}, client, models}
    end
  end

  # Which of the protocol's kinds (section 5) an error of the SDK is: by its type, not by its message.
  defp kind_of(%Client.StatusError{}), do: "http_status"
  defp kind_of(_), do: "transport"
end

Driver.serve()

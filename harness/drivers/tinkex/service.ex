defmodule Parity.Tinkex.Service do
  @moduledoc """
  Reads commands, answers them: the line of the protocol, and what stands for `hello`, `evaluate` and `shutdown`.

  Commands come on descriptor 0 and answers go to descriptor 3. Descriptor 1 is stderr when this starts, so that
  whatever the SDK or its logger prints cannot reach the runner.
  """

  alias Parity.Tinkex.{Convert, Graph, Probe, Run, Spelling}

  @protocol "1.3"

  @doc "Serves until stdin ends, then leaves at once: calls that still hang must not keep the program."
  def serve do
    listen_to_abort()
    port = Port.open({:fd, 0, 3}, [:binary, :stream, :eof])
    loop(port, [])
  end

  # Parts of a line are kept as they come and joined once it is whole: a line may have many megabytes.
  defp loop(port, parts) do
    receive do
      {^port, {:data, data}} ->
        case :binary.split(data, "\n", [:global]) do
          [part] ->
            loop(port, [part | parts])

          [part | rest] ->
            {lines, [begun]} = Enum.split(rest, -1)

            for line <- [IO.iodata_to_binary(Enum.reverse([part | parts])) | lines], do: take(port, line)

            loop(port, if(begun == "", do: [], else: [begun]))
        end

      {^port, :eof} ->
        System.halt(0)

      {:answer, line} ->
        write(port, line)
        loop(port, parts)

      # As a script ends: the program does, whatever is in flight.
      {:last_answer, line} ->
        write(port, line)
    end
  end

  # A line without an id has nobody to answer.
  defp take(port, line) do
    case Jason.decode(line) do
      {:ok, %{"id" => _, "cmd" => _} = command} ->
        dispatch(port, command)

      _ ->
        beginning = binary_part(line, 0, min(byte_size(line), 200))
        IO.puts(:stderr, "a line that is no command: #{inspect(beginning)}")
    end
  end

  defp dispatch(port, %{"cmd" => "run", "id" => id} = command) do
    service = self()
    # The service goes on reading, so that the end of stdin is noticed during a run too.
    kind = if Run.ends?(command), do: :last_answer, else: :answer
    spawn(fn -> send(service, {kind, answer(id, fn -> %{steps: Run.execute(command)} end)}) end)
    port
  end

  defp dispatch(port, %{"cmd" => "shutdown", "id" => id}) do
    write(port, answer(id, fn -> %{} end))
    System.halt(0)
  end

  defp dispatch(port, %{"cmd" => "hello", "id" => id, "nonce" => nonce}) do
    write(port, answer(id, fn -> hello(nonce) end))
  end

  defp dispatch(port, %{"cmd" => "evaluate", "id" => id, "cases" => cases}) do
    write(port, answer(id, fn -> %{results: Enum.map(cases, &evaluate/1)} end))
  end

  defp dispatch(port, %{"id" => id, "cmd" => other}) do
    write(port, answer(id, fn -> raise ArgumentError, "unknown command #{inspect(other)}" end))
  end

  # Whatever fails here is the driver's failure and is said.
  defp answer(id, action) do
    Jason.encode_to_iodata!(%{id: id, ok: action.()})
  rescue
    error ->
      detail = Exception.format(:error, error, __STACKTRACE__)
      code = error.__struct__ |> Module.split() |> List.last()
      Jason.encode_to_iodata!(%{id: id, driver_error: %{code: code, message: Exception.message(error), detail: detail}})
  end

  defp write(port, line), do: Port.command(port, [line, "\n"])

  defp hello(nonce) do
    {:ok, _} = Application.ensure_all_started(:tinkex)
    # As in a release: loading code between two calls would let the first get ahead.
    :ok = Code.ensure_all_loaded!(Application.spec(:tinkex, :modules))

    %{
      protocol: @protocol,
      nonce: nonce,
      sdk: Probe.sdk(),
      language: "elixir",
      runtime: "Elixir #{System.version()}, OTP #{System.otp_release()}",
      contract: "tinker-#{Probe.parity_version()}",
      capabilities: Probe.capabilities(),
      # A second run beside a first would change who of two processes comes first, which is what is looked at.
      max_in_flight: 1,
      libraries: Probe.libraries()
    }
  end

  # In float32, as a loss function would; what the evaluation raises is the case's error.
  defp evaluate(%{"loss" => loss, "logprobs" => logprobs, "fields" => fields}) do
    logprobs = Enum.map(logprobs, &(&1 |> Convert.read_tensor() |> Convert.to_nx()))
    {value, metrics, gradients} = Graph.value_and_gradients(loss, logprobs, Enum.map(fields, &field_of/1))

    %{
      loss: value |> Nx.to_number() |> Spelling.spell(),
      metrics: Map.new(metrics, fn {name, tensor} -> {name, tensor |> Nx.to_number() |> Spelling.spell()} end),
      gradients: Enum.map(gradients, &spell_gradient/1)
    }
  rescue
    error -> %{error: "#{inspect(error.__struct__)}: #{Exception.message(error)}"}
  end

  defp field_of(inputs) do
    fn key ->
      case Map.fetch(inputs, key) do
        {:ok, wire} -> wire |> Convert.read_tensor() |> Convert.to_nx() |> as_float()
        :error -> raise Parity.Tinkex.GraphError, "no field #{inspect(key)}"
      end
    end
  end

  defp as_float(:empty), do: :empty
  defp as_float(tensor), do: tensor |> Nx.flatten() |> Nx.as_type({:f, 32})

  defp spell_gradient(nil), do: nil
  defp spell_gradient(:empty), do: []
  defp spell_gradient(tensor), do: tensor |> Nx.to_flat_list() |> Enum.map(&Spelling.spell/1)

  # The runner asks for stacks by SIGABRT.
  defp listen_to_abort do
    {:ok, _} = Application.ensure_all_started(:logger)
    :ok = :gen_event.add_handler(:erl_signal_server, Parity.Tinkex.Abort, [])
    :os.set_signal(:sigabrt, :handle)
  end
end

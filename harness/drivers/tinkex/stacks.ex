defmodule Parity.Tinkex.Stacks do
  @moduledoc "Where everything stands: the processes that run code of the SDK or of the driver."

  @processes 20

  @doc "The stacks of up to 20 processes."
  def of_all do
    for(pid <- Process.list(), pid != self(), text = of(pid), do: text)
    |> Enum.take(@processes)
    |> Enum.join("\n")
  end

  defp of(pid) do
    with [current_stacktrace: stack, dictionary: dictionary] <-
           Process.info(pid, [:current_stacktrace, :dictionary]),
         {module, _, _} <- dictionary[:"$initial_call"] || first(stack),
         true <- ours?(module) or Enum.any?(stack, &ours?(elem(&1, 0))) do
      "#{inspect(pid)} #{inspect(module)}:\n#{Exception.format_stacktrace(stack)}"
    else
      _ -> nil
    end
  end

  defp first([{module, function, arity, _} | _]), do: {module, function, arity}
  defp first([]), do: nil

  defp ours?(module), do: String.starts_with?(Atom.to_string(module), ["Elixir.Tinkex", "Elixir.Parity", "Elixir.Task"])
end

defmodule Parity.Tinkex.Abort do
  @moduledoc "Answers SIGABRT with the stacks of all processes on stderr, and ends the program."
  @behaviour :gen_event

  alias Parity.Tinkex.Stacks

  @impl true
  def init(_), do: {:ok, nil}

  @impl true
  def handle_event(:sigabrt, _state) do
    IO.puts(:stderr, Stacks.of_all())
    System.halt(134)
  end

  def handle_event(_signal, state), do: {:ok, state}

  @impl true
  def handle_call(_request, state), do: {:ok, :ok, state}
end

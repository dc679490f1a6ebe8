defmodule Parity.Tinkex.ModelThread do
  @moduledoc """
  A process that belongs to a model and makes the model's calls one after the other.

  A task is awaited by the process that started it: this one.
  """

  @doc "Starts it, linked to the caller."
  def start do
    spawn_link(fn ->
      Process.flag(:trap_exit, true)
      loop(%{})
    end)
  end

  @doc "Lets it make a call; does not wait."
  def call(thread, id, call), do: send(thread, {:call, id, call})

  @doc "Waits until the call was made, and for what it returned; raises what either raised."
  def await(thread, id) do
    send(thread, {:await, id, self()})

    receive do
      {:awaited, ^id, {:returned, value}} -> value
      {:awaited, ^id, {:raised, kind, reason, stack}} -> :erlang.raise(kind, reason, stack)
    end
  end

  defp loop(returned) do
    receive do
      {:call, id, call} ->
        loop(Map.put(returned, id, attempt(call)))

      {:await, id, asking} ->
        send(asking, {:awaited, id, awaited(returned[id])})
        loop(returned)

      {:EXIT, _linked, _reason} ->
        loop(returned)
    end
  end

  defp awaited({:returned, {:ok, %Task{} = task}}), do: attempt(fn -> Task.await(task, :infinity) end)
  defp awaited(other), do: other

  defp attempt(action) do
    {:returned, action.()}
  catch
    kind, reason -> {:raised, kind, reason, __STACKTRACE__}
  end
end

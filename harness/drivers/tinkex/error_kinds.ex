defmodule Parity.Tinkex.ErrorKinds do
  @moduledoc """
  Which of the protocol's error kinds an error is: by what the SDK says its type is, then by the exception it carries,
  then by its message. Messages were observed in Tinkex 0.4.0.

  The regularizers' pipeline has tuples for errors: `{:pipeline_failed, exception}`, `{:regularizer_failed, name,
  exception}`, `{:regularizer_exit, name, reason}`, and `:timeout`.
  """

  alias Tinkex.Error

  @sayings [
    # A loss that returned no pair of loss and metrics: nothing else of the call is matched there.
    {"Custom loss failed: %MatchError", "loss_failed"},
    {"expected at least one ForwardBackwardOutput", "invalid_input"},
    {"target_tokens missing", "invalid_input"},
    {"Unsupported list value", "invalid_input"},
    {"Unsupported tensor value", "invalid_input"},
    {"Gradient count does not match", "bad_output"},
    {"JSON decode error", "bad_output"},
    {"invalid_logprobs", "bad_output"},
    {"response:", "bad_output"},
    {"Polling failed", "bad_output"}
  ]

  @vector "cannot convert tensor of shape"

  @doc "The kind of an error. `raised` is what the loss function raised during the call, or nil."
  def kind_of({:pipeline_failed, error}, raised), do: kind_of_part(error, raised)
  def kind_of({:regularizer_failed, _name, error}, raised), do: kind_of_part(error, raised)
  def kind_of({:regularizer_exit, _name, {:timeout, _call}}, _raised), do: "timeout"
  def kind_of({:regularizer_exit, _name, _reason}, _raised), do: "loss_failed"
  def kind_of(:timeout, _raised), do: "timeout"

  def kind_of(error, raised) do
    by_loss(error, raised) || by_type(error) || by_message(message(error)) || otherwise(error)
  end

  # What a part itself raised, what the SDK raised about what it returned, or what it refused.
  defp kind_of_part(error, error), do: "loss_failed"
  defp kind_of_part(%MatchError{}, _raised), do: "loss_failed"

  defp kind_of_part(%ArgumentError{message: message}, _raised),
    do: if(message =~ @vector, do: "not_scalar", else: "invalid_input")

  defp kind_of_part(_error, _raised), do: "loss_failed"

  @doc "The part that an error blames, or nil. The time limit is one of regularizers, and does not say whose."
  def part({:regularizer_failed, name, _error}), do: %{part: "regularizer", name: name}
  def part({:regularizer_exit, name, _reason}), do: %{part: "regularizer", name: name}
  def part(:timeout), do: %{part: "regularizer", name: nil}
  def part(%Error{message: "Custom loss failed" <> _}), do: %{part: "base", name: nil}
  def part(_error), do: nil

  @doc "The SDK's name of an error's type."
  def type_name({:exit, _reason}), do: "exit"
  def type_name(%module{}), do: inspect(module)
  def type_name(error) when is_tuple(error), do: inspect(elem(error, 0))
  def type_name(other), do: inspect(other)

  @doc "The message of an error as it is."
  def message({:exit, reason}), do: Exception.format_exit(reason)
  def message(%Error{} = error), do: Error.format(error)
  def message(error) when is_exception(error), do: Exception.message(error)
  def message(other), do: inspect(other)

  defp by_loss(_error, nil), do: nil
  defp by_loss(%Error{message: "Custom loss failed" <> _}, _raised), do: "loss_failed"
  # A task that raises takes its caller along, with what it raised as the reason.
  defp by_loss({:exit, {error, _stack}}, error), do: "loss_failed"
  defp by_loss(_error, _raised), do: nil

  defp by_type(%Error{type: :api_status}), do: "http_status"
  defp by_type(%Error{type: :api_connection}), do: "transport"
  defp by_type(%Error{type: :api_timeout}), do: "timeout"
  # Only what the server said of a failed operation has a category without a status.
  defp by_type(%Error{type: :request_failed, category: category, status: nil}) when category != nil,
    do: "request_failed"

  defp by_type({:exit, {:timeout, _call}}), do: "timeout"
  defp by_type({:exit, {:killed, {Task, _await, _arguments}}}), do: "cancelled"
  defp by_type(_error), do: nil

  defp by_message(text), do: Enum.find_value(@sayings, fn {saying, kind} -> if text =~ saying, do: kind end)

  defp otherwise(%Error{type: :validation}), do: "invalid_input"
  defp otherwise(%Error{}), do: "bad_output"
  defp otherwise(error) when is_exception(error), do: "invalid_input"
  defp otherwise(_error), do: "bad_output"
end

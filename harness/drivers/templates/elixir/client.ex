defmodule Client do
  # A stand-in for your SDK: sessions and models in raw HTTP, as tinker-0.15.0 sends them. Delete it for your SDK.

  defmodule StatusError do
    defexception [:message]
  end

  defmodule ConnectionError do
    defexception [:message]
  end

  defstruct [:base_url, :api_key, :session, models: 0]

  def version, do: "0.1.0"

  # Nothing is sent yet: the session begins with the first model.
  def new(base_url, api_key), do: %Client{base_url: String.trim_trailing(base_url, "/"), api_key: api_key}

  # Creates a LoRA model, waits until it is ready, and returns its id.
  def create_model(client, base_model, rank, seed) do
    client = begin(client)

    submitted =
      post(client, "create_model", %{
        session_id: client.session,
        model_seq_id: client.models,
        base_model: base_model,
        user_metadata: nil,
        lora_config: %{rank: rank, seed: seed, train_unembed: true, train_mlp: true, train_attn: true}
      })

    {wait(client, submitted["request_id"])["model_id"], %{client | models: client.models + 1}}
  end

  # Returns what the server knows about a model.
  def get_info(client, model), do: post(client, "get_info", %{model_id: model})

  defp begin(%{session: nil} = client) do
    body = %{tags: [], user_metadata: %{}, sdk_version: "0.15.0", project_id: nil}
    %{client | session: post(client, "create_session", body)["session_id"]}
  end

  defp begin(client), do: client

  defp wait(client, request) do
    question = %{request_id: request, allow_metadata_only: true}

    case post(client, "retrieve_future", question, [{"x-tinker-request-type", "CreateModel"}]) do
      %{"type" => "try_again"} -> wait(client, request)
      result -> result
    end
  end

  # Sends a request and returns the JSON answer.
  defp post(client, route, body, headers \\ []) do
    {:ok, _} = Application.ensure_all_started(:inets)

    headers =
      [
        {"accept", "application/json"},
        {"x-api-key", client.api_key},
        {"x-idempotency-key", Base.encode16(:crypto.strong_rand_bytes(16))},
        {"x-stainless-retry-count", "0"} | headers
      ]
      |> Enum.map(fn {name, value} -> {to_charlist(name), to_charlist(value)} end)

    url = to_charlist("#{client.base_url}/api/v1/#{route}")
    request = {url, headers, to_charlist("application/json"), IO.iodata_to_binary(JsonText.encode(body))}

    case :httpc.request(:post, request, [timeout: 60_000], body_format: :binary) do
      {:ok, {{_, status, _}, _, text}} when status < 400 ->
        {:ok, answer} = JsonText.decode(text)
        answer

      {:ok, {{_, status, _}, _, text}} ->
        raise StatusError, message: "#{route}: #{status} #{text}"

      {:error, reason} ->
        raise ConnectionError, message: "#{route}: #{inspect(reason)}"
    end
  end
end

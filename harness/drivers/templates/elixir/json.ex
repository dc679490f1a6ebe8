defmodule JsonText do
  # JSON in the standard library of Elixir 1.14. From Elixir 1.18 on there is `JSON`; most SDKs bring Jason.

  def encode(nil), do: "null"
  def encode(value) when is_boolean(value), do: Atom.to_string(value)
  def encode(value) when is_atom(value), do: encode(Atom.to_string(value))
  def encode(value) when is_integer(value) or is_float(value), do: to_string(value)
  def encode(value) when is_binary(value), do: [?", for(<<point::utf8 <- value>>, do: escaped(point)), ?"]
  def encode(value) when is_list(value), do: [?[, value |> Enum.map(&encode/1) |> Enum.intersperse(?,), ?]]

  def encode(value) when is_map(value) do
    pairs = Enum.map(value, fn {key, each} -> [encode(to_string(key)), ?:, encode(each)] end)
    [?{, Enum.intersperse(pairs, ?,), ?}]
  end

  defp escaped(?"), do: "\\\""
  defp escaped(?\\), do: "\\\\"
  defp escaped(point) when point < 32, do: ["\\u", point |> Integer.to_string(16) |> String.pad_leading(4, "0")]
  defp escaped(point), do: <<point::utf8>>

  # Returns {:ok, value}, or :error for what is no JSON.
  def decode(text) do
    {value, rest} = value(blank(text))
    if blank(rest) == "", do: {:ok, value}, else: :error
  catch
    :malformed -> :error
  end

  defp value(<<?{, rest::binary>>), do: pairs(blank(rest), [])
  defp value(<<?[, rest::binary>>), do: elements(blank(rest), [])
  defp value(<<?", rest::binary>>), do: string(rest, rest, 0, [])
  defp value("true" <> rest), do: {true, rest}
  defp value("false" <> rest), do: {false, rest}
  defp value("null" <> rest), do: {nil, rest}

  defp value(text) do
    case Regex.run(~r/\A-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/, text) do
      nil -> throw(:malformed)
      [number | parts] -> {number(number, parts), binary_part(text, byte_size(number), byte_size(text) - byte_size(number))}
    end
  end

  defp number(number, []), do: String.to_integer(number)

  # Erlang wants a decimal point: 1e-6 is 1.0e-6.
  defp number(number, ["" | _]), do: number |> String.replace(~r/[eE]/, ".0e") |> String.to_float()
  defp number(number, _), do: String.to_float(number)

  defp elements(<<?], rest::binary>>, []), do: {[], rest}

  defp elements(text, found) do
    {element, rest} = value(text)

    case blank(rest) do
      <<?,, rest::binary>> -> elements(blank(rest), [element | found])
      <<?], rest::binary>> -> {Enum.reverse([element | found]), rest}
      _ -> throw(:malformed)
    end
  end

  defp pairs(<<?}, rest::binary>>, []), do: {%{}, rest}

  defp pairs(<<?", rest::binary>>, found) do
    {key, rest} = string(rest, rest, 0, [])
    rest = blank(rest)
    if not match?(<<?:, _::binary>>, rest), do: throw(:malformed)
    {value, rest} = value(blank(binary_part(rest, 1, byte_size(rest) - 1)))

    case blank(rest) do
      <<?,, rest::binary>> -> pairs(blank(rest), [{key, value} | found])
      <<?}, rest::binary>> -> {Map.new(Enum.reverse([{key, value} | found])), rest}
      _ -> throw(:malformed)
    end
  end

  defp pairs(_, _), do: throw(:malformed)

  # `run` begins where the last escape ended, and `length` bytes of it are text.
  defp string(<<?", rest::binary>>, run, length, found) do
    text = IO.iodata_to_binary(Enum.reverse([binary_part(run, 0, length) | found]))
    if String.valid?(text), do: {text, rest}, else: throw(:malformed)
  end

  defp string(<<?\\, rest::binary>>, run, length, found) do
    {point, rest} = escape(rest)
    string(rest, rest, 0, [point, binary_part(run, 0, length) | found])
  end

  defp string(<<byte, rest::binary>>, run, length, found) when byte >= 32, do: string(rest, run, length + 1, found)
  defp string(_, _, _, _), do: throw(:malformed)

  defp escape(<<?u, hex::binary-size(4), rest::binary>>) do
    case {hexadecimal(hex), rest} do
      {high, <<?\\, ?u, low::binary-size(4), rest::binary>>} when high in 0xD800..0xDBFF ->
        {<<0x10000 + (high - 0xD800) * 0x400 + (hexadecimal(low) - 0xDC00)::utf8>>, rest}

      {point, _} when point in 0xD800..0xDFFF ->
        throw(:malformed)

      {point, rest} ->
        {<<point::utf8>>, rest}
    end
  end

  defp escape(<<letter, rest::binary>>) do
    case %{?" => "\"", ?\\ => "\\", ?/ => "/", ?b => "\b", ?f => "\f", ?n => "\n", ?r => "\r", ?t => "\t"} do
      %{^letter => text} -> {text, rest}
      _ -> throw(:malformed)
    end
  end

  defp escape(_), do: throw(:malformed)

  defp hexadecimal(text) do
    case Integer.parse(text, 16) do
      {number, ""} when number >= 0 -> number
      _ -> throw(:malformed)
    end
  end

  defp blank(<<space, rest::binary>>) when space in [?\s, ?\t, ?\n, ?\r], do: blank(rest)
  defp blank(text), do: text
end

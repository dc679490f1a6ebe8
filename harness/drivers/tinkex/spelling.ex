defmodule Parity.Tinkex.Spelling do
  @moduledoc """
  Numbers as the driver protocol spells them: NaN, the infinities and -0.0 as strings, integers beyond 2^53 as digits.

  Elixir has no such floats: they are the atoms that Nx uses, `:nan`, `:infinity` and `:neg_infinity`.
  """

  import Bitwise

  @exact 1 <<< 53
  @first 8
  @quiet_nan <<0, 0, 0xC0, 0x7F>>

  @doc "Spells one number or one of Nx's atoms; nil stays nil, anything else is told by its representation."
  def spell(:nan), do: "NaN"
  def spell(:infinity), do: "Infinity"
  def spell(:neg_infinity), do: "-Infinity"
  def spell(nil), do: nil
  def spell(value) when is_integer(value) and abs(value) <= @exact, do: value
  def spell(value) when is_integer(value), do: Integer.to_string(value)
  def spell(value) when is_float(value), do: if(<<value::float>> == <<1::1, 0::63>>, do: "-0.0", else: value)
  def spell(value), do: inspect(value)

  @doc "Reads one spelled number of a dtype."
  def unspell("NaN", _dtype), do: :nan
  def unspell("Infinity", _dtype), do: :infinity
  def unspell("-Infinity", _dtype), do: :neg_infinity
  def unspell("-0.0", _dtype), do: -0.0
  def unspell(digits, "int64") when is_binary(digits), do: String.to_integer(digits)
  def unspell(value, "int64") when is_integer(value), do: value
  def unspell(value, "int64") when is_float(value) and trunc(value) == value, do: trunc(value)
  def unspell(value, "float32") when is_number(value), do: value * 1.0

  @doc "The elements as raw little-endian bytes of a dtype. Every NaN is the positive quiet one."
  def raw(values, "float32"), do: for(value <- values, into: <<>>, do: float32(value))
  def raw(values, "int64"), do: for(value <- values, into: <<>>, do: <<trunc(value)::signed-little-64>>)

  defp float32(:nan), do: @quiet_nan
  defp float32(:infinity), do: <<0, 0, 0x80, 0x7F>>
  defp float32(:neg_infinity), do: <<0, 0, 0x80, 0xFF>>
  defp float32(value), do: <<value::float-little-32>>

  @doc "The elements of raw little-endian bytes, as Nx tells them."
  def elements(raw, "int64"), do: for(<<value::signed-little-64 <- raw>>, do: value)

  def elements(raw, "float32") do
    for <<bits::binary-4 <- raw>> do
      case bits do
        <<value::float-little-32>> -> value
        <<0, 0, 0x80, 0x7F>> -> :infinity
        <<0, 0, 0x80, 0xFF>> -> :neg_infinity
        _ -> :nan
      end
    end
  end

  @doc "SHA-256 in hexadecimal."
  def digest(raw), do: :crypto.hash(:sha256, raw) |> Base.encode16(case: :lower)

  @doc "Spells the first elements (at most 8) of raw bytes."
  def first(raw, dtype) do
    width = if dtype == "int64", do: 8, else: 4
    raw |> binary_part(0, min(byte_size(raw), @first * width)) |> elements(dtype) |> Enum.map(&spell/1)
  end
end

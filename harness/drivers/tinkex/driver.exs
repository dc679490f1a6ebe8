# Starts the driver: `elixir -pa SDK/ebin ... driver.exs`, with the answers' pipe on descriptor 3 and 1 pointing at stderr.
# The SDK and its libraries are on the code path already; the modules of this folder are compiled in memory.
Code.put_compiler_option(:ignore_module_conflict, true)

modules =
  ["graph", "spelling", "convert", "ready_made", "callback", "probe", "composition", "error_kinds", "stacks"] ++
    ["model_thread", "run", "service"]

modules
|> Enum.map(&Path.join(__DIR__, "#{&1}.ex"))
|> Kernel.ParallelCompiler.require()

Parity.Tinkex.Service.serve()

//! The command-line tool. `cli` holds the arguments and one file a group of commands; everything
//! else is in the library.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}

//! The script for bash, and how it is answered.
//!
//! Readline cuts words at `:` and `=`: of `ocifs ls oci:lay` it gives a script five words and wants a continuation of
//! the last. The engine's own script passes these on, and so completes no reference with a tag, a port or a
//! transport. This one puts together what no space is between, and takes off what Readline has left alone.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap_complete::env::{self, EnvCompleter};

const SCRIPT: &str = r#"_ocifs() {
    local IFS=$'\n' line=${COMP_LINE:0:COMP_POINT} at gap typed
    local -a words=()
    for ((at = 0; at <= COMP_CWORD; at++)); do
        gap=${line%%[^[:space:]]*}
        line=${line#"$gap"}
        if [[ at -eq 0 || -n $gap ]]; then
            words+=("")
        fi
        typed=${COMP_WORDS[at]}
        if [[ at -eq COMP_CWORD ]]; then
            typed=$line
        fi
        words[${#words[@]}-1]+=$typed
        line=${line#"$typed"}
    done
    typed=${words[${#words[@]}-1]}
    COMPREPLY=()
    read -r -d '' -a COMPREPLY < <(
        VARIABLE=bash _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
            COMPLETER -- "${words[@]}" 2>/dev/null
    )
    COMPREPLY=("${COMPREPLY[@]#"${typed%"$2"}"}")
    if [[ ${COMPREPLY-} == *[=/:] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -o bashdefault -o nosort -F _ocifs BIN 2>/dev/null || complete -o bashdefault -F _ocifs BIN
"#;

/// Bash, with a script of ours.
pub(super) struct Bash;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == self.name()
    }

    fn write_registration(
        &self,
        variable: &str,
        _name: &str,
        bin: &str,
        completer: &str,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let script = SCRIPT.replace("COMPLETER", completer).replace("BIN", bin);
        out.write_all(script.replace("VARIABLE", variable).as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut Command,
        words: Vec<OsString>,
        folder: Option<&Path>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        env::Bash.write_complete(command, words, folder, out)
    }
}

"""``-completion``: scripts that complete the command line in a shell, made from the option table."""

from __future__ import annotations

import enum
from collections.abc import Callable

from qmon.program.option_table import OPTIONS, Option, Treatment


class Kind(enum.Enum):
    """What is completed behind an option."""

    NOTHING = enum.auto()
    """It takes no argument."""
    FILE = enum.auto()
    """A file; also at the end of another text, behind ``=`` or ``:``."""
    FOLDER = enum.auto()
    WORDS = enum.auto()
    """One of the words of its argument, which is written ``a|b|c``."""


def kind(option: Option) -> Kind:
    """What is completed behind an option, by what the help calls its argument."""
    argument = option.argument
    if not argument:
        return Kind.NOTHING
    if argument.partition(" ")[0] == "DIR":
        return Kind.FOLDER
    words = _words(option)
    has_words = len(words) > 1 and all(word.isalpha() and word.islower() for word in words)
    return Kind.WORDS if has_words else Kind.FILE


def _words(option: Option) -> list[str]:
    return option.argument.split("|")


def _ours() -> list[Option]:
    return [option for option in OPTIONS.values() if option.treatment is Treatment.OURS]


def bash() -> str:
    """Return bash's script, without a newline at its end. Readline completes the files."""
    ours = _ours()
    names = " ".join(f"-{option.name}" for option in ours)
    rows = [
        f'        -{option.name} | --{option.name}) options=(-W "{" ".join(_words(option))}") ;;'
        for option in ours
        if kind(option) is Kind.WORDS
    ]
    return "\n".join(
        [
            "# bash completion for qmon, made by qmon -completion bash",
            "_qmon() {",
            "    local word=$2 options=()",
            "    COMPREPLY=()",
            "    case $3 in",
            *rows,
            "        *) case $word in",
            f'            --*) options=(-P - -W "{names}") word=${{word#-}} ;;',
            f'            -*) options=(-W "{names}") ;;',
            "        esac ;;",
            "    esac",
            "    ((${#options[@]})) || return",
            '    mapfile -t COMPREPLY < <(compgen "${options[@]}" -- "$word")',
            "}",
            "complete -o default -F _qmon qmon",
        ]
    )


def zsh() -> str:
    """Return zsh's script, to be kept as ``_qmon`` in a folder of ``$fpath``."""
    specs = [f"    '*-{option.name}[{_zsh(option.help)}]{_zsh_argument(option)}'" for option in _ours()]
    lines = " \\\n".join([*specs, "    '*:disk image:_files'"])
    return f"#compdef qmon\n# zsh completion for qmon, made by qmon -completion zsh\n_arguments \\\n{lines}"


def _zsh(text: str) -> str:
    for character in "\\[]:":
        text = text.replace(character, f"\\{character}")
    return text.replace("'", "'\\''")


def _zsh_argument(option: Option) -> str:
    match kind(option):
        case Kind.NOTHING:
            return ""
        case Kind.FILE:
            action = '{compset -P "*[=\\:]"; _files}'
        case Kind.FOLDER:
            action = "_files -/"
        case Kind.WORDS:
            action = f"({' '.join(_words(option))})"
    return f":{_zsh(option.argument)}:{action}"


def fish() -> str:
    """Return fish's script."""
    lines = ["# fish completion for qmon, made by qmon -completion fish"]
    for option in _ours():
        match kind(option):
            case Kind.NOTHING:
                takes = ""
            case Kind.FILE:
                takes = " -r -F"
            case Kind.FOLDER:
                takes = " -x -a '(__fish_complete_directories)'"
            case Kind.WORDS:
                takes = f" -x -a '{' '.join(_words(option))}'"
        text = option.help.replace("\\", "\\\\").replace("'", "\\'")
        lines.append(f"complete -c qmon -o {option.name}{takes} -d '{text}'")
    return "\n".join(lines)


SHELLS: dict[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}
"""What makes the script of each shell."""

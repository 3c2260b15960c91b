
_clap_complete_NAME() {
    # Readline ends words at colons and equal signs, too: to us what stands together is one word.
    local words=() rest=$COMP_LINE gap piece last i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        piece=${COMP_WORDS[i]}
        gap=${rest%%[![:space:]]*}
        rest=${rest#"$gap"}
        rest=${rest#"$piece"}
        if ((i == COMP_CWORD)) && [[ $piece != *[:=] ]]; then
            piece=$2
        fi
        last=$((${#words[@]} - 1))
        if ((i > 0)) && [[ -z $gap ]] && [[ ${COMP_WORDS[i]} == [:=]* || ${words[last]} == *[:=] ]]; then
            words[last]+=$piece
        else
            words+=("$piece")
        fi
    done
    last=$((${#words[@]} - 1))
    local space=true IFS=$'\013'
    if compopt +o nospace 2>/dev/null; then
        space=false
    fi
    COMPREPLY=($(
        _CLAP_IFS=$IFS _CLAP_COMPLETE_INDEX=$last _CLAP_COMPLETE_COMP_TYPE=$COMP_TYPE _CLAP_COMPLETE_SPACE=$space \
            VAR=bash COMPLETER -- "${words[@]}"
    ))
    if [[ $? != 0 ]]; then
        unset COMPREPLY
        return
    fi
    if [[ $space == false && ${COMPREPLY-} =~ [=/:]$ ]]; then
        compopt -o nospace
    fi
    # Of a word that it divides readline replaces the last part only.
    if [[ ${words[last]} != "$2" && ${words[last]} == *[:=]* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${words[last]%"${words[last]##*[:=]}"}"}")
    fi
}
if ((BASH_VERSINFO[0] > 4 || (BASH_VERSINFO[0] == 4 && BASH_VERSINFO[1] >= 4))); then
    complete -o nospace -o bashdefault -o nosort -F _clap_complete_NAME BIN
else
    complete -o nospace -o bashdefault -F _clap_complete_NAME BIN
fi

# Shell functions that spare a step what has passed before, for tests/run. To be sourced; the working folder is a checkout.
#
#   kept_begin [WORD…]     takes the key: a hash of the sources, the compiler and the words, which name all else that decides
#   kept_run <name> <log> <command…>    runs the command, unless it passed with the same key within a week: then the log is
#                          that of before, and `kept` is set. The status is the command's
#
# What failed is never kept, nor what had a second try or skipped a test for want of something that another run may have
# (`kept_unless`), nor what passed while sources were changed, nor anything outside a checkout of git: there is no telling what
# it depends on. With `kept_again` set all runs. `kept_child` is what runs, for a trap.

kept_folder=target/passed
kept_unless='FLAKY |SKIP .*(no binary with fault points|cannot be built here|neither mmdebstrap nor debootstrap$)'
kept='' kept_again='' kept_child='' kept_words='' kept_now=''

kept_begin() {
    kept_words=$*
    kept_now=$(kept_key) || kept_now=''
}

# All files but texts, whether git knows them or not.
kept_key() {
    git rev-parse --git-dir >/dev/null 2>&1 || return 1
    {
        git ls-files -z --cached --others --exclude-standard -- . ':!*.md' ':!man' ':!completions' ':!examples/quickstart' |
            sort -zu | xargs -0 sh -c 'sha256sum "$@"; stat -c "%A %n" "$@"' sh
        rustc --version --verbose
        printf '%s\n' "$kept_words"
    } 2>&1 | sha256sum | cut -c1-32
}

kept_run() {
    local name=${1// /-} log=$2 code=0
    local file=$kept_folder/$name.$kept_now
    shift 2
    kept=''
    if [ -n "$kept_now" ] && [ -z "$kept_again" ] && [ -n "$(find "$file" -mtime -7 2>/dev/null)" ]; then
        cp "$file" "$log"
        kept=kept
        return
    fi
    # In the background, so that a trap of the caller is heard.
    "$@" >"$log" 2>&1 &
    kept_child=$!
    wait "$kept_child" || code=$?
    kept_child=''
    if [ "$code" = 0 ] && [ -n "$kept_now" ] && [ "$(kept_key)" = "$kept_now" ] &&
        ! grep -qE "$kept_unless" "$log"; then
        mkdir -p "$kept_folder"
        find "$kept_folder" -maxdepth 1 -name "$name.*" -delete
        cp "$log" "$file.new" && mv "$file.new" "$file"
    fi
    return "$code"
}

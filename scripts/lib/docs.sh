# Sourced by `scripts/check`, after venv.sh. Builds the documentation, and leaves it in .venv/docs. A link or a name that
# leads nowhere is an error, and so is a page that loads anything from elsewhere.

build_docs() {
  local said
  # A notice of the theme's about versions of mkdocs that pyproject.toml does not let in. Without --quiet, which hides
  # warnings too.
  if ! said=$(cd "$root" && NO_MKDOCS_2_WARNING=1 "$venv/bin/python" -m mkdocs build --clean 2>&1); then
    printf '%s\n' "$said" >&2
    return 1
  fi
}

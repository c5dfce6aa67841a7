# Lints every R folder by the rules of .lintr: Rscript r-plumber-common/run-lint.R [FOLDER ...]
common <- dirname(normalizePath(sub("^--file=", "", grep("^--file=", commandArgs(FALSE), value = TRUE))))
root <- dirname(common)
setwd(root)
.libPaths(c(file.path(root, ".cache", "R"), .libPaths()))
folders <- commandArgs(TRUE)
if (length(folders) == 0L) folders <- c(basename(common), Sys.glob("r-*-plumber"))
options(lintr.linter_file = file.path(root, ".lintr"))
found <- do.call(c, lapply(folders, function(folder) unclass(lintr::lint_dir(folder, parse_settings = TRUE))))
for (lint in found) {
  cat(sprintf("%s:%d: %s [%s]\n", lint$filename, lint$line_number, lint$message, lint$linter))
}
cat(length(found), "findings\n")
quit(status = if (length(found)) 1L else 0L)

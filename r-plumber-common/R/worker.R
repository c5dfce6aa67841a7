# What runs in a worker process, called by the pool. A worker holds the service with its models.

worker_state <- new.env(parent = emptyenv())

worker_start <- function(dir) {
  worker_state$service <- load_service(dir)
  warm <- worker_state$service$warm
  if (!is.null(warm)) worker_state$service$models[[warm]]()
  TRUE
}

worker_answer <- function(path, body_file, reply_file) {
  reply <- answer(worker_state$service, path, readBin(body_file, "raw", file.size(body_file)))
  writeBin(charToRaw(reply$body), reply_file)
  list(status = reply$status, log = reply$log)
}

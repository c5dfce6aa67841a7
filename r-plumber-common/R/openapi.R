# The OpenAPI 3.1 document of a service, from the same specs that read and write.

#' The JSON schema (draft 2020-12) of a spec.
schema <- function(spec) UseMethod("schema")

schema.spec_string <- function(spec) list(type = "string", maxLength = spec$max_length)

schema.spec_number <- function(spec) c(list(type = "number"), schema_range(spec))

schema.spec_integer <- function(spec) c(list(type = "integer"), schema_range(spec))

schema_range <- function(spec) {
  c(
    if (is.finite(spec$min)) list(minimum = spec$min),
    if (is.finite(spec$max)) list(maximum = spec$max),
    if (is.finite(spec$above)) list(exclusiveMinimum = spec$above)
  )
}

schema.spec_boolean <- function(spec) list(type = "boolean")

schema.spec_choice <- function(spec) {
  list(type = if (is.character(spec$values)) "string" else "integer", enum = as.list(spec$values))
}

schema.spec_date <- function(spec) list(type = "string", format = "date")

schema.spec_nullable <- function(spec) list(anyOf = list(schema(spec$inner), list(type = "null")))

schema.spec_optional <- function(spec) {
  out <- schema(nullable(spec$inner))
  if (!is.null(spec$default)) out$default <- spec$default
  out
}

schema.spec_array <- function(spec) {
  c(
    list(type = "array", items = schema(spec$inner)),
    if (spec$min_items > 0L) list(minItems = spec$min_items),
    if (is.finite(spec$max_items)) list(maxItems = spec$max_items)
  )
}

schema.spec_record <- function(spec) schema_object(spec$fields, lapply(spec$fields, schema), FALSE)

schema.spec_columns <- function(spec) {
  column <- function(field) {
    left_out <- inherits(field, "spec_optional")
    array <- array_of(if (left_out) field$inner else field, spec$min_rows, spec$max_rows)
    schema(if (left_out) nullable(array) else array)
  }
  extra <- if (is.null(spec$extra)) FALSE else column(spec$extra)
  schema_object(spec$fields, lapply(spec$fields, column), extra)
}

schema.spec_dictionary <- function(spec) list(type = "object", additionalProperties = schema(spec$inner))

schema_object <- function(fields, properties, additional) {
  required <- names(fields)[!vapply(fields, inherits, NA, "spec_optional")]
  c(
    list(type = "object"),
    if (length(properties)) list(properties = properties),
    if (length(required)) list(required = as.list(required)),
    list(additionalProperties = additional)
  )
}

problem_reference <- function(status, description) {
  stats::setNames(list(list(
    description = description,
    content = list("application/problem+json" = list(schema = list("$ref" = "#/components/schemas/Problem")))
  )), status)
}

fit_operation <- function(route) {
  json <- function(spec) list("application/json" = list(schema = schema(spec)))
  list(post = list(
    summary = route$summary,
    operationId = route$fun,
    security = list(list(bearer = list())),
    requestBody = list(required = TRUE, content = json(route$request)),
    responses = c(
      list("200" = list(description = "The fit.", content = json(route$response))),
      problem_reference("400", "The body is not JSON."),
      problem_reference("401", "No token, or a wrong one."),
      problem_reference("413", "The body is too large, or of undeclared length."),
      problem_reference("415", "The body is not application/json."),
      problem_reference("422", "The body is not as declared, or the data cannot be fitted."),
      problem_reference("500", "The fit failed for an unforeseen reason."),
      problem_reference("503", "The queue is full, the service is stopping, or the fit took too long.")
    )
  ))
}

get_operation <- function(name, summary, type, schema, may_be_unready = FALSE) {
  content <- stats::setNames(list(list(schema = schema)), type)
  list(get = list(
    summary = summary,
    operationId = name,
    responses = c(
      list("200" = list(description = "The answer.", content = content)),
      if (may_be_unready) problem_reference("503", "Not ready, or stopping.")
    )
  ))
}

openapi <- function(service) {
  text <- list(type = "string")
  moment <- list(type = "string", format = "date-time")
  ready <- list(type = "object", properties = list(status = list(const = "ready")), required = list("status"))
  health <- c(
    list(status = text, service = text, version = text, timestamp = moment),
    lapply(service$health(), function(value) text)
  )
  paths <- list(
    "/healthz" = get_operation("healthz", "Is the process alive?", "application/json", list(
      type = "object", properties = health, required = as.list(names(health)), additionalProperties = FALSE
    )),
    "/readyz" = get_operation("readyz", "May it be sent fits?", "application/json", ready, TRUE),
    "/metrics" = get_operation("metrics", "Counters for Prometheus.", "text/plain", text),
    "/openapi.json" = get_operation("openapi", "This document.", "application/json", list(type = "object"))
  )
  fits <- stats::setNames(lapply(service$routes, fit_operation), vapply(service$routes, `[[`, "", "path"))
  list(
    openapi = "3.1.0",
    info = list(
      title = service$name, version = service$version,
      license = list(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths = c(paths, fits),
    components = list(
      securitySchemes = list(bearer = list(type = "http", scheme = "bearer")),
      schemas = list(Problem = schema(problem_spec()))
    )
  )
}

openapi_json <- function(service) {
  jsonlite::toJSON(openapi(service), auto_unbox = TRUE, null = "null", digits = NA)
}

{{- /*
What the schema cannot say, because it looks at more than one key. Every refusal is a sentence that names the key and
what to set; all of them are told at once.
*/}}
{{- define "seed-analytics.validate" -}}
{{- $secrets := .Values.global.secrets -}}
{{- $proxy := .Values.global.cloudSqlProxy -}}
{{- $store := .Values.secretStore -}}
{{- $dev := .Values.devDatabase -}}
{{- $environment := .Values.global.environment -}}
{{- $credentials := include "seed-analytics.credentials" . | fromYamlArray -}}
{{- $errors := list -}}

{{- range $old, $new := .Files.Get "files/renamed-keys.yaml" | fromYaml -}}
{{- $place := $.Values -}}
{{- $keys := splitList "." $old -}}
{{- range initial $keys }}{{ $place = index $place . | default dict }}{{ end -}}
{{- if hasKey $place (last $keys) -}}
{{- $errors = append $errors (printf "%s is now %s: set that instead" $old $new) -}}
{{- end -}}
{{- end -}}

{{- $global := include "seed-analytics.withoutNulls" .Values.global -}}
{{- range $name, $values := .Values -}}
{{- if and (kindIs "map" $values) (ne $name "global") (hasKey $values "global") -}}
{{- if ne $global (include "seed-analytics.withoutNulls" $values.global) -}}
{{- $errors = append $errors (printf "%s.global is set, but global is for the whole release: set its keys in global, or for %s alone in %s itself" $name $name $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if and $credentials (not $secrets.source) -}}
{{- $errors = append $errors "global.secrets.source is not set: set it to external (External Secrets operator), existing (Secrets that you made) or inline (values, for dev)" -}}
{{- end -}}
{{- range list "database" "irt" "forecast" "brms" -}}
{{- if and (index $secrets .).value (ne $secrets.source "inline") $secrets.source -}}
{{- $errors = append $errors (printf "global.secrets.%s.value and global.secrets.source %s are two sources at once: remove the value, or set source to inline (dev only)" . $secrets.source) -}}
{{- end -}}
{{- end -}}
{{- if eq $secrets.source "inline" -}}
{{- if ne $environment "dev" -}}
{{- $errors = append $errors (printf "global.secrets.source inline is for development only, and global.environment is %s: set source to external or existing" $environment) -}}
{{- end -}}
{{- range $credentials -}}
{{- if and (not (index $secrets .).value) (not (and (eq . "database") $dev.enabled)) -}}
{{- $errors = append $errors (printf "global.secrets.%s.value is empty: set it, since global.secrets.source is inline" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $taken := dict -}}
{{- range $credentials -}}
{{- $name := (index $secrets .).name -}}
{{- if and (hasKey $taken $name) (ne $secrets.source "existing") (not $secrets.combined.enabled) -}}
{{- $errors = append $errors (printf "global.secrets.%s.name and global.secrets.%s.name are both %s: give each Secret that the release writes its own name" (get $taken $name) . $name) -}}
{{- end -}}
{{- $_ := set $taken $name . -}}
{{- end -}}
{{- if $secrets.combined.enabled -}}
{{- if and $secrets.source (ne $secrets.source "external") -}}
{{- $errors = append $errors (printf "global.secrets.combined.enabled needs global.secrets.source external, not %s: switch it off, or set the source to external" $secrets.source) -}}
{{- end -}}
{{- end -}}

{{- if and (eq $secrets.source "external") (not $store.name) -}}
{{- $errors = append $errors (printf "secretStore.name is empty: name the SecretStore or ClusterSecretStore of the environment %s that global.secrets.source external reads" $environment) -}}
{{- end -}}
{{- if $store.create -}}
{{- if ne $secrets.source "external" -}}
{{- $errors = append $errors "secretStore.create needs global.secrets.source external: set it, or switch secretStore.create off" -}}
{{- end -}}
{{- range $credentials -}}
{{- if contains "/" (index $secrets .).remoteKey -}}
{{- $errors = append $errors (printf "global.secrets.%s.remoteKey holds a slash, which Google Secret Manager's ids cannot: set it to a plain id" .) -}}
{{- end -}}
{{- end -}}
{{- if not $store.gcp.projectID -}}
{{- $errors = append $errors (printf "secretStore.gcp.projectID is empty: set the Google project that holds the secrets of the environment %s" $environment) -}}
{{- end -}}
{{- $given := list -}}
{{- range list "clusterName" "clusterLocation" "googleServiceAccount" }}{{ if index $store.gcp . }}{{ $given = append $given . }}{{ end }}{{ end -}}
{{- if and $given (lt (len $given) 3) -}}
{{- $errors = append $errors (printf "secretStore.gcp: clusterName, clusterLocation and googleServiceAccount belong together, and only %s is set: set all three for Workload Identity, or none" (join " and " $given)) -}}
{{- end -}}
{{- end -}}

{{- if and $proxy.enabled (not $proxy.instance) -}}
{{- $errors = append $errors "global.cloudSqlProxy.instance is empty: set it to the instance connection name, project:region:instance" -}}
{{- end -}}
{{- if and $proxy.enabled $dev.enabled -}}
{{- $errors = append $errors "global.cloudSqlProxy.enabled and devDatabase.enabled are two databases at once: switch one off" -}}
{{- end -}}

{{- if and $secrets.database.password (not $dev.enabled) -}}
{{- $errors = append $errors "global.secrets.database.password is of the throw-away database, and devDatabase.enabled is false: remove it, or set devDatabase.enabled to true" -}}
{{- end -}}
{{- if $dev.enabled -}}
{{- if ne $environment "dev" -}}
{{- $errors = append $errors (printf "devDatabase.enabled is for development only, and global.environment is %s: switch devDatabase off, or set the environment to dev" $environment) -}}
{{- end -}}
{{- if ne $secrets.source "inline" -}}
{{- $errors = append $errors "devDatabase.enabled needs global.secrets.source inline: set it" -}}
{{- end -}}
{{- if $secrets.database.value -}}
{{- $errors = append $errors "global.secrets.database.value and devDatabase.enabled are two databases at once: remove the value, or switch devDatabase off" -}}
{{- end -}}
{{- if not $secrets.database.password -}}
{{- $errors = append $errors "global.secrets.database.password is empty: set any, the database of devDatabase.enabled is thrown away" -}}
{{- end -}}
{{- if eq .Values.migrations.mode "none" -}}
{{- $errors = append $errors "devDatabase.enabled needs its tables: set migrations.mode to helm or argocd" -}}
{{- end -}}
{{- end -}}

{{- range $stage := include "seed-analytics.stages" . | fromYamlArray -}}
{{- $service := index (index $.Subcharts .).Chart.Annotations "seed-analytics/service" -}}
{{- if and $service (not (hasKey $.Subcharts $service)) (not (index $.Values .).serviceUrl) -}}
{{- $errors = append $errors (printf "%s.enabled needs a service that is off: set %s.enabled to true, or %s.serviceUrl to the address of another" $stage $service $stage) -}}
{{- end -}}
{{- end -}}

{{- if $errors -}}
{{- fail (printf "the values do not fit together:\n  - %s" (join "\n  - " $errors)) -}}
{{- end -}}
{{- end }}

{{- /* JSON of values; Helm 3 and 4 differ in where they keep a null. */}}
{{- define "seed-analytics.withoutNulls" -}}
{{- regexReplaceAll ",?\"[^\"]+\":null" (regexReplaceAll "\"[^\"]+\":null," (toJson .) "") "" -}}
{{- end }}

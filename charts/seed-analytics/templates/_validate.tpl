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

{{- $blocks := dict "global.stages" .Values.global.stages "global.services" .Values.global.services "global.cloudSqlProxy" $proxy -}}
{{- range $name, $values := omit .Values "global" -}}{{- $_ := set $blocks $name $values -}}{{- end -}}
{{- range $name, $values := $blocks -}}
{{- if kindIs "map" $values -}}
{{- if hasKey $values "schedule" -}}
{{- with include "seed-analytics.cronFault" $values.schedule -}}{{- $errors = append $errors (printf "%s.schedule %q: %s" $name $values.schedule .) -}}{{- end -}}
{{- end -}}
{{- if kindIs "string" $values.timeZone -}}
{{- if not (regexMatch (include "seed-analytics.timeZones" .) $values.timeZone) -}}
{{- $errors = append $errors (printf "%s.timeZone %q is no time zone of the tz database: set Area/Location, such as Asia/Seoul, or UTC" $name $values.timeZone) -}}
{{- end -}}
{{- end -}}
{{- with ($values.image | default dict).digest -}}
{{- if not (regexMatch "^sha256:[a-f0-9]{64}$" .) -}}
{{- $errors = append $errors (printf "%s.image.digest %q is no digest: set sha256: and 64 hexadecimal digits in small letters, or leave it empty" $name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if $errors -}}
{{- fail (printf "the values do not fit together:\n  - %s" (join "\n  - " $errors)) -}}
{{- end -}}
{{- end }}

{{- /* What is wrong with a cron expression, by the rules of Kubernetes; nothing where it is well. */}}
{{- define "seed-analytics.cronFault" -}}
{{- $fields := regexSplit " +" . -1 -}}
{{- $month := dict "jan" "1" "feb" "2" "mar" "3" "apr" "4" "may" "5" "jun" "6" "jul" "7" "aug" "8" "sep" "9" "oct" "10" "nov" "11" "dec" "12" -}}
{{- $weekday := dict "sun" "0" "mon" "1" "tue" "2" "wed" "3" "thu" "4" "fri" "5" "sat" "6" -}}
{{- $kinds := list
  (dict "is" "minute (0-59)" "value" "[0-5]?[0-9]" "names" dict)
  (dict "is" "hour (0-23)" "value" "([01]?[0-9]|2[0-3])" "names" dict)
  (dict "is" "day of the month (1-31)" "value" "(0?[1-9]|[12][0-9]|3[01])" "names" dict)
  (dict "is" "month (1-12, or jan to dec)" "value" "(0?[1-9]|1[0-2])" "names" $month)
  (dict "is" "weekday (0-6 from Sunday, or sun to sat)" "value" "[0-6]" "names" $weekday) -}}
{{- if contains "TZ=" . -}}
a schedule holds no time zone: set timeZone to it, and schedule to the five fields alone
{{- else if hasPrefix "@" . -}}
{{- if not (has . (list "@yearly" "@annually" "@monthly" "@weekly" "@daily" "@midnight" "@hourly")) -}}
there is no such name: set @hourly, @daily, @weekly, @monthly or @yearly, or five fields
{{- end -}}
{{- else if ne (len $fields) 5 -}}
it has {{ len $fields }} of five fields: set minute hour day month weekday, such as 0 5 * * *
{{- else -}}
{{- $fault := "" -}}
{{- range $i, $given := $fields -}}
{{- $kind := index $kinds $i -}}
{{- $field := lower $given -}}
{{- range $name, $number := $kind.names -}}{{- $field = replace $name $number $field -}}{{- end -}}
{{- $item := printf "(\\*|\\?|%s(-%s)?)(/[1-9][0-9]*)?" $kind.value $kind.value -}}
{{- if not (regexMatch (printf "^%s(,%s)*$" $item $item) $field) -}}
{{- $fault = default (printf "%q is no %s: set five fields, minute hour day month weekday" $given $kind.is) $fault -}}
{{- end -}}
{{- range regexFindAll "[0-9]+-[0-9]+" $field -1 -}}
{{- $ends := splitList "-" . -}}
{{- if gt (atoi (first $ends)) (atoi (last $ends)) -}}
{{- $fault = default (printf "a range in %q ends before it begins: set the earlier end first, or two ranges" $given) $fault -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $fault -}}
{{- end -}}
{{- end }}

{{- /* The areas of the tz database, and its names that have none. */}}
{{- define "seed-analytics.timeZones" -}}
^((Africa|America|Antarctica|Arctic|Asia|Atlantic|Australia|Brazil|Canada|Chile|Etc|Europe|Indian|Mexico|Pacific|US)(/[A-Z][A-Za-z0-9_+-]*){1,2}|UTC|UCT|GMT[+-]?0?|Greenwich|Universal|Zulu|CET|CST6CDT|EET|EST|EST5EDT|HST|MET|MST|MST7MDT|PRC|PST8PDT|ROC|ROK|W-SU|WET|Cuba|Egypt|Eire|GB|GB-Eire|Hongkong|Iceland|Iran|Israel|Jamaica|Japan|Kwajalein|Libya|NZ|NZ-CHAT|Navajo|Poland|Portugal|Singapore|Turkey)$
{{- end }}

{{- /* JSON of values; Helm 3 and 4 differ in where they keep a null. */}}
{{- define "seed-analytics.withoutNulls" -}}
{{- regexReplaceAll ",?\"[^\"]+\":null" (regexReplaceAll "\"[^\"]+\":null," (toJson .) "") "" -}}
{{- end }}

{{- /*
What every pod of the release shares: image reference, security, scheduling, environment, the database proxy.

seed-lib.values (list $ "stages") puts the values of a subchart, laid over the release-wide defaults of
global.stages or global.services, into the key "values" of a dict:
  $c := dict "root" $ ; include "seed-lib.values" (list $c "stages") ; $c.values
Maps merge; a scalar or list of the subchart wins, also when it is 0, false or empty.
*/}}
{{- define "seed-lib.values" -}}
{{- $c := index . 0 -}}
{{- $_ := set $c "values" (mergeOverwrite (deepCopy (index $c.root.Values.global (index . 1))) (omit $c.root.Values "global")) -}}
{{- end }}

{{- /* Annotations of a pod. Inline credentials are the only ones whose change the chart can see: pods that read them
restart with them.
seed-lib.podAnnotations (dict "root" $ "values" $v "name" "r-irt-plumber" "secrets" (list "irt")) */}}
{{- define "seed-lib.podAnnotations" -}}
{{- $own := dict "kubectl.kubernetes.io/default-container" .name -}}
{{- $secrets := .root.Values.global.secrets -}}
{{- if eq $secrets.source "inline" -}}
{{- $read := list -}}
{{- range .secrets -}}
{{- $read = append $read (coalesce (index $secrets .).value (index $secrets .).password) -}}
{{- end -}}
{{- $_ := set $own "checksum/secrets" ($read | toJson | sha256sum) -}}
{{- end -}}
{{- toYaml (merge $own .values.podAnnotations) -}}
{{- end }}

{{- /* registry/repository:tag@digest; the tag defaults to the chart's appVersion.
seed-lib.image (list $ $image) */}}
{{- define "seed-lib.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- if and (eq (toString $image.tag) "latest") (not $image.digest) -}}
{{- fail (printf "the tag of the image %s is latest, which changes under your feet: set a version as tag, or a digest" $image.repository) -}}
{{- end -}}
{{- $registry := default $root.Values.global.image.registry $image.registry -}}
{{- with $registry }}{{ . }}/{{ end }}{{ $image.repository }}:{{ default $root.Chart.AppVersion $image.tag }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* User settings are laid over the restricted ones; "drop: [ALL]" and the refusal of privilege stay whatever is set. */}}
{{- define "seed-lib.podSecurityContext" -}}
{{- $default := dict "runAsNonRoot" true "runAsUser" 10001 "runAsGroup" 10001 "fsGroup" 10001 "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- $merged := mergeOverwrite $default (deepCopy (default dict .)) (dict "runAsNonRoot" true) -}}
{{- range $key, $value := $merged }}{{- if kindIs "invalid" $value }}{{- $_ := unset $merged $key }}{{- end }}{{- end -}}
{{- toYaml $merged -}}
{{- end }}

{{- define "seed-lib.securityContext" -}}
{{- $given := deepCopy (default dict .) -}}
{{- $drop := append (dig "capabilities" "drop" list $given) "ALL" | uniq | sortAlpha -}}
{{- $forced := dict "allowPrivilegeEscalation" false "capabilities" (dict "drop" $drop) -}}
{{- toYaml (mergeOverwrite (dict "readOnlyRootFilesystem" true) $given $forced) -}}
{{- end }}

{{- /* The value of an environment variable as a string: whole numbers stay whole (100000000, not 1e+08). */}}
{{- define "seed-lib.envValue" -}}
{{- if kindIs "string" . }}{{ . | quote }}{{ else }}{{ toJson . | quote }}{{ end -}}
{{- end }}

{{- /* name/value pairs of a map, sorted; null leaves a variable out, so the program's own default holds. */}}
{{- define "seed-lib.envMap" -}}
{{- range $name, $value := . }}
{{- if not (kindIs "invalid" $value) }}
- name: {{ $name | quote }}
  value: {{ include "seed-lib.envValue" $value }}
{{- end }}
{{- end }}
{{- end }}

{{- /* One list of a container's environment; a variable that the chart sets cannot be set again.
seed-lib.env (dict "env" "...yaml..." "extra" $v.extraEnv "path" "r-irt-plumber.extraEnv") */}}
{{- define "seed-lib.env" -}}
{{- $env := .env | fromYamlArray -}}
{{- $seen := dict -}}
{{- range $env }}{{ $_ := set $seen .name true }}{{ end -}}
{{- $path := .path -}}
{{- range .extra -}}
{{- if hasKey $seen .name -}}
{{- fail (printf "%s: %s is already set by the chart: set it by its own key, or give extraEnv another name" $path .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- toYaml (concat $env (default list .extra)) -}}
{{- end }}

{{- /* Fields that every pod spec of the release has, before its containers.
seed-lib.podSpec (dict "root" $ "values" $v "name" "r-irt-plumber" ["serviceAccountName" ...]) */}}
{{- define "seed-lib.podSpec" -}}
{{- $v := .values -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .serviceAccountName }}
serviceAccountName: {{ . | quote }}
{{- end }}
securityContext:
  {{- include "seed-lib.podSecurityContext" $v.podSecurityContext | nindent 2 }}
{{- with .root.Values.global.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with $v.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $v.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $v.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  # The only writable path.
  - name: tmp
    emptyDir:
      sizeLimit: {{ $v.tmpSizeLimit | quote }}
  {{- with $v.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* The keys that a container's value may have come from, for a refusal: of a subchart and of all of its kind.
seed-lib.place (list (dict "root" $ "name" "r-irt-plumber" ["kind" "services"]) "extraEnv") */}}
{{- define "seed-lib.place" -}}
{{- $c := index . 0 -}}
{{- $key := index . 1 -}}
{{- if eq $c.name $c.root.Chart.Name -}}{{ $c.name }}.{{ $key }} or {{ end -}}
global.{{ default "stages" $c.kind }}.{{ $key }}
{{- end }}

{{- /* Refuse what the API server would refuse, and the schema cannot see: it looks at keys one by one, before defaults. */}}
{{- define "seed-lib.checkPod" -}}
{{- $block := get (dict "migrate" "migrations" "simulate" "migrations" "verify" "verify") .name | default .name -}}
{{- include "seed-lib.checkResources" (list (printf "%s.resources" $block) .values.resources) -}}
{{- range $key := list "podSecurityContext" "securityContext" -}}
{{- with (get $.values $key | default dict).seccompProfile -}}
{{- if and (eq .type "Localhost") (not .localhostProfile) -}}
{{- fail (printf "%s.seccompProfile: type Localhost names no profile: set localhostProfile, or type RuntimeDefault" (include "seed-lib.place" (list $ $key))) -}}
{{- end -}}
{{- if and (ne .type "Localhost") .localhostProfile -}}
{{- fail (printf "%s.seccompProfile: localhostProfile is for type Localhost, and type is %s: set type Localhost, or remove the profile" (include "seed-lib.place" (list $ $key)) .type) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $tolerations := include "seed-lib.place" (list . "tolerations") -}}
{{- range .values.tolerations -}}
{{- if and (eq (default "Equal" .operator) "Exists") .value -}}
{{- fail (printf "%s: operator Exists takes any value, and value is %q: remove the value, or set operator Equal" $tolerations .value) -}}
{{- end -}}
{{- if and (eq (default "Equal" .operator) "Equal") (not .key) -}}
{{- fail (printf "%s: a toleration without a key takes every taint: set key, or operator Exists" $tolerations) -}}
{{- end -}}
{{- if and (hasKey . "tolerationSeconds") (ne (default "" .effect) "NoExecute") -}}
{{- fail (printf "%s: tolerationSeconds is for effect NoExecute: set that effect, or remove tolerationSeconds" $tolerations) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* seed-lib.checkResources (list "migrations.resources" $resources) */}}
{{- define "seed-lib.checkResources" -}}
{{- $path := index . 0 -}}
{{- $limits := (index . 1).limits | default dict -}}
{{- range $name, $asked := (index . 1).requests | default dict -}}
{{- $limit := get $limits $name -}}
{{- if and $limit (gt (include "seed-lib.amount" $asked | float64) (include "seed-lib.amount" $limit | float64)) -}}
{{- fail (printf "%s: requests.%s %v is above limits.%s %v: raise the limit, or lower the request" $path $name $asked $name $limit) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* A quantity of Kubernetes as a number: 500m, 2, 128Mi. */}}
{{- define "seed-lib.amount" -}}
{{- $units := dict "m" 0.001 "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 -}}
{{- $number := regexFind "^[0-9.]+(e[+-]?[0-9]+)?" (toString .) -}}
{{- mulf (float64 $number) (get $units (trimPrefix $number (toString .))) -}}
{{- end }}

{{- /* Fields that every container of the release has.
seed-lib.container (dict "root" $ "values" $v "name" "..." "env" "...yaml...") */}}
{{- define "seed-lib.container" -}}
{{- $v := .values -}}
{{- include "seed-lib.checkPod" . -}}
{{- $volumes := list -}}
{{- range $v.extraVolumes -}}
{{- if has .name (prepend $volumes "tmp") -}}
{{- fail (printf "%s: the name %q is taken: set another" (include "seed-lib.place" (list $ "extraVolumes")) .name) -}}
{{- end -}}
{{- $volumes = append $volumes .name -}}
{{- end -}}
{{- $mounts := include "seed-lib.place" (list $ "extraVolumeMounts") -}}
{{- range $v.extraVolumeMounts -}}
{{- if eq .mountPath "/tmp" -}}
{{- fail (printf "%s: /tmp is mounted already: set another mountPath, or tmpSizeLimit" $mounts) -}}
{{- end -}}
{{- if eq .name "tmp" -}}
{{- fail (printf "%s: the volume \"tmp\" is the chart's own: add another one to extraVolumes and name that" $mounts) -}}
{{- end -}}
{{- if not (has .name $volumes) -}}
{{- fail (printf "%s: there is no volume %q: add it to extraVolumes" $mounts .name) -}}
{{- end -}}
{{- end -}}
name: {{ .name | quote }}
image: {{ include "seed-lib.image" (list .root $v.image) | quote }}
imagePullPolicy: {{ default .root.Values.global.image.pullPolicy $v.image.pullPolicy | quote }}
securityContext:
  {{- include "seed-lib.securityContext" $v.securityContext | nindent 2 }}
env:
  {{- include "seed-lib.env" (dict "env" .env "extra" $v.extraEnv "path" (include "seed-lib.place" (list . "extraEnv"))) | nindent 2 }}
resources:
  {{- toYaml $v.resources | nindent 2 }}
volumeMounts:
  - name: tmp
    mountPath: /tmp
  {{- with $v.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* Cloud SQL Auth Proxy as a native sidecar: an init container that goes on running beside the main container and ends
with it, so that Jobs complete. The startup probe holds the main container back until the proxy answers. */}}
{{- define "seed-lib.cloudSqlProxy" -}}
{{- $proxy := .Values.global.cloudSqlProxy -}}
{{- if $proxy.enabled }}
{{- include "seed-lib.checkResources" (list "global.cloudSqlProxy.resources" $proxy.resources) }}
- name: cloud-sql-proxy
  image: {{ include "seed-lib.image" (list . $proxy.image) | quote }}
  imagePullPolicy: {{ .Values.global.image.pullPolicy | quote }}
  restartPolicy: Always
  args:
    - --structured-logs
    - --exit-zero-on-sigterm
    - --health-check
    - --http-address=0.0.0.0
    - --http-port=9090
    - --port={{ int64 $proxy.port }}
    {{- if $proxy.privateIp }}
    - --private-ip
    {{- end }}
    {{- if $proxy.autoIamAuthn }}
    - --auto-iam-authn
    {{- end }}
    - {{ $proxy.instance | quote }}
  ports:
    - name: proxy-health
      containerPort: 9090
      protocol: TCP
  startupProbe:
    httpGet:
      path: /startup
      port: proxy-health
    periodSeconds: 1
    timeoutSeconds: 5
    failureThreshold: 60
  livenessProbe:
    httpGet:
      path: /liveness
      port: proxy-health
    periodSeconds: 30
    timeoutSeconds: 5
    failureThreshold: 3
  securityContext:
    {{- include "seed-lib.securityContext" dict | nindent 4 }}
  resources:
    {{- toYaml $proxy.resources | nindent 4 }}
{{- end }}
{{- end }}

{{- /* Annotations by which a ServiceAccount acts as the Google service account of the database proxy. */}}
{{- define "seed-lib.proxyIdentity" -}}
{{- with .Values.global.cloudSqlProxy }}
{{- if and .enabled .googleServiceAccount }}
iam.gke.io/gcp-service-account: {{ .googleServiceAccount | quote }}
{{- end }}
{{- end }}
{{- end }}

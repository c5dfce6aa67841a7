{{- /*
An R model service (plumber): Deployment, Service, ServiceAccount, NetworkPolicies, PodDisruptionBudget,
HorizontalPodAutoscaler, ServiceMonitor. A subchart's whole template is

  {{ include "seed-lib.service" . }}

Its name is the chart's, its credential the middle of it: r-irt-plumber reads secrets.irt.
*/}}
{{- define "seed-lib.service" -}}
{{- $c := dict "root" . -}}
{{- include "seed-lib.values" (list $c "services") -}}
{{- $v := $c.values -}}
{{- $global := .Values.global -}}
{{- if and $v.autoscaling.enabled (not (kindIs "invalid" $v.replicas)) -}}
{{- fail (printf "%s: autoscaling.enabled and replicas are both set: leave replicas empty, autoscaling.minReplicas is the lower bound" .Chart.Name) -}}
{{- end -}}
{{- if and $v.autoscaling.enabled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- fail (printf "%s: autoscaling.minReplicas %d is above autoscaling.maxReplicas %d: raise maxReplicas" .Chart.Name (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- include "seed-lib.service.serviceAccount" $c }}
---
{{ include "seed-lib.service.deployment" $c }}
---
{{ include "seed-lib.service.service" $c }}
{{- if $global.networkPolicy.enabled }}
---
{{ include "seed-lib.service.networkPolicy" $c }}
---
{{ include "seed-lib.service.grant" $c }}
{{- end }}
{{- if $v.podDisruptionBudget.enabled }}
---
{{ include "seed-lib.service.podDisruptionBudget" $c }}
{{- end }}
{{- if $v.autoscaling.enabled }}
---
{{ include "seed-lib.service.autoscaler" $c }}
{{- end }}
{{- if $v.serviceMonitor.enabled }}
---
{{ include "seed-lib.service.serviceMonitor" $c }}
{{- end }}
{{- end }}

{{- /* r-irt-plumber -> irt */}}
{{- define "seed-lib.serviceKey" -}}{{ trimSuffix "-plumber" (trimPrefix "r-" .) }}{{- end }}

{{- define "seed-lib.service.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "seed-lib.metadata" (dict "root" .root "name" .root.Chart.Name "component" "service" "annotations" .values.serviceAccount.annotations) | nindent 2 }}
automountServiceAccountToken: false
{{- end }}

{{- define "seed-lib.service.deployment" -}}
{{- $v := .values -}}
{{- $name := .root.Chart.Name -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "seed-lib.metadata" (dict "root" .root "name" $name "component" "service") | nindent 2 }}
spec:
  {{- if not $v.autoscaling.enabled }}
  replicas: {{ if kindIs "invalid" $v.replicas }}1{{ else }}{{ int64 $v.replicas }}{{ end }}
  {{- end }}
  revisionHistoryLimit: 3
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  selector:
    matchLabels:
      {{- include "seed-lib.selector" (list .root $name) | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "seed-lib.podLabels" (dict "root" .root "name" $name "component" "service" "grants" list "extra" $v.podLabels) | nindent 8 }}
      annotations:
        {{- include "seed-lib.podAnnotations" (dict "root" .root "values" $v "name" $name "secrets" (list (include "seed-lib.serviceKey" $name))) | nindent 8 }}
    spec:
      {{- include "seed-lib.podSpec" (dict "root" .root "values" $v "serviceAccountName" (include "seed-lib.name" (list .root $name))) | nindent 6 }}
      # A running fit may finish; then some seconds to stop.
      terminationGracePeriodSeconds: {{ add $v.shutdownGraceSecs 15 }}
      {{- if $v.topologySpread.enabled }}
      topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - maxSkew: 1
          topologyKey: {{ . | quote }}
          whenUnsatisfiable: {{ $v.topologySpread.whenUnsatisfiable }}
          labelSelector:
            matchLabels:
              {{- include "seed-lib.selector" (list $.root $name) | nindent 14 }}
          matchLabelKeys: [pod-template-hash]
        {{- end }}
      {{- end }}
      containers:
        - {{ include "seed-lib.container" (dict "root" .root "values" $v "name" $name "kind" "services" "env" (include "seed-lib.service.env" .)) | nindent 10 | trim }}
          ports:
            - name: http
              containerPort: 8080
              protocol: TCP
          startupProbe:
            httpGet:
              path: /healthz
              port: http
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: {{ int64 $v.probes.startupFailureThreshold }}
          livenessProbe:
            httpGet:
              path: /healthz
              port: http
            periodSeconds: {{ int64 $v.probes.livenessPeriodSeconds }}
            timeoutSeconds: 5
            failureThreshold: 3
          readinessProbe:
            httpGet:
              path: /readyz
              port: http
            periodSeconds: {{ int64 $v.probes.readinessPeriodSeconds }}
            timeoutSeconds: 5
            failureThreshold: 3
{{- end }}

{{- define "seed-lib.service.env" -}}
{{- $v := .values -}}
{{ include "seed-lib.envFromSecret" (list .root (include "seed-lib.serviceKey" .root.Chart.Name) "INTERNAL_TOKEN") }}
{{- include "seed-lib.envMap" (dict
  "HOST" "0.0.0.0"
  "PORT" "8080"
  "LOG_FORMAT" "json"
  "WORKERS" $v.workers
  "QUEUE_LENGTH" $v.queueLength
  "MAX_BODY_BYTES" $v.maxBodyBytes
  "FIT_TIMEOUT_SECS" $v.fitTimeoutSecs
  "SHUTDOWN_GRACE_SECS" $v.shutdownGraceSecs) }}
{{- end }}

{{- define "seed-lib.service.service" -}}
{{- $name := .root.Chart.Name -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "seed-lib.metadata" (dict "root" .root "name" $name "component" "service") | nindent 2 }}
spec:
  type: ClusterIP
  selector:
    {{- include "seed-lib.selector" (list .root $name) | nindent 4 }}
  ports:
    - name: http
      port: 80
      targetPort: http
      protocol: TCP
{{- end }}

{{- define "seed-lib.service.networkPolicy" -}}
{{- $name := .root.Chart.Name -}}
{{- $ingress := list (dict
  "from" (list (dict "podSelector" (dict "matchLabels" (include "seed-lib.grantSelector" (list .root $name) | fromYaml))))
  "ports" (list (dict "port" 8080 "protocol" "TCP"))) -}}
{{- if .values.serviceMonitor.enabled -}}
{{- $ingress = append $ingress (dict
  "from" .root.Values.global.networkPolicy.prometheus
  "ports" (list (dict "port" 8080 "protocol" "TCP"))) -}}
{{- end -}}
{{- include "seed-lib.networkPolicy" (dict "root" .root "name" $name "component" "service"
  "selector" (include "seed-lib.selector" (list .root $name) | fromYaml)
  "ingress" $ingress "egress" list) }}
{{- end }}

{{- define "seed-lib.service.grant" -}}
{{- $name := .root.Chart.Name -}}
{{- include "seed-lib.networkPolicy" (dict "root" .root "name" $name "component" "service" "objectName" (printf "grant-%s" $name)
  "selector" (include "seed-lib.grantSelector" (list .root $name) | fromYaml)
  "egress" (list (dict
    "to" (list (dict "podSelector" (dict "matchLabels" (include "seed-lib.selector" (list .root $name) | fromYaml))))
    "ports" (list (dict "port" 8080 "protocol" "TCP"))))) }}
{{- end }}

{{- define "seed-lib.service.podDisruptionBudget" -}}
{{- $name := .root.Chart.Name -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "seed-lib.metadata" (dict "root" .root "name" $name "component" "service") | nindent 2 }}
spec:
  maxUnavailable: {{ .values.podDisruptionBudget.maxUnavailable }}
  # A pod that never became ready must not hold up a drain.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "seed-lib.selector" (list .root $name) | nindent 6 }}
{{- end }}

{{- define "seed-lib.service.autoscaler" -}}
{{- $name := .root.Chart.Name -}}
{{- $a := .values.autoscaling -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "seed-lib.metadata" (dict "root" .root "name" $name "component" "service") | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "seed-lib.name" (list .root $name) | quote }}
  minReplicas: {{ int64 $a.minReplicas }}
  maxReplicas: {{ int64 $a.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ int64 $a.targetCPUUtilization }}
{{- end }}

{{- define "seed-lib.service.serviceMonitor" -}}
{{- $name := .root.Chart.Name -}}
{{- $m := .values.serviceMonitor -}}
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "seed-lib.metadata" (dict "root" .root "name" $name "component" "service" "labels" $m.labels) | nindent 2 }}
spec:
  selector:
    matchLabels:
      {{- include "seed-lib.selector" (list .root $name) | nindent 6 }}
  endpoints:
    - port: http
      path: /metrics
      interval: {{ $m.interval | quote }}
{{- end }}

{{/* Labels of an object. Takes a list: the root context and the component. */}}
{{- define "homeostat.labels" -}}
{{- $root := index . 0 -}}
{{ include "homeostat.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "homeostat.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* An image. Takes a list: the root context and the image's name. */}}
{{- define "homeostat.image" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $images := $root.Values.images -}}
{{- get $images $name | default (printf "%s/%s:%s" $images.prefix $name ($images.tag | default $root.Chart.AppVersion)) -}}
{{- end }}

{{- define "homeostat.registryHost" -}}
{{ .Release.Name }}-registry.{{ .Release.Namespace }}.svc:5000
{{- end }}

{{- define "homeostat.artifacts" -}}
{{- if .Values.artifacts.uri -}}
{{ .Values.artifacts.uri }}
{{- else if .Values.registry.enabled -}}
oci://{{ include "homeostat.registryHost" . }}
{{- else -}}
{{- fail "Homeostat needs a place for models and data: set artifacts.uri=oci://<registry>/<prefix>, or registry.enabled=true for a small registry inside of the cluster" -}}
{{- end -}}
{{- end }}

{{- define "homeostat.plainHTTP" -}}
{{- $hosts := .Values.artifacts.plainHTTP -}}
{{- if .Values.registry.enabled -}}
{{- $hosts = append $hosts (include "homeostat.registryHost" .) -}}
{{- end -}}
{{- $hosts | uniq | join "," -}}
{{- end }}

{{- define "homeostat.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "homeostat.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "homeostat.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

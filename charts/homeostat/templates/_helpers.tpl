{{- define "homeostat.labels" -}}
app.kubernetes.io/name: homeostat
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "homeostat.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "homeostat.image" -}}
{{- $image := index .root.Values.images .name -}}
{{- $tag := $image.tag | default .root.Chart.AppVersion -}}
{{ $image.repository }}{{ hasPrefix "sha256:" $tag | ternary "@" ":" }}{{ $tag }}
{{- end }}

{{- define "homeostat.registryHost" -}}
{{ .Release.Name }}-registry.{{ .Release.Namespace }}.svc:5000
{{- end }}

{{- define "homeostat.artifactsUri" -}}
{{- if .Values.artifacts.uri -}}
{{ .Values.artifacts.uri }}
{{- else if .Values.registry.enabled -}}
oci://{{ include "homeostat.registryHost" . }}
{{- else -}}
{{ fail "models need a registry: set artifacts.uri (for example oci://registry.example.com/models), or registry.enabled=true for a small one to try out" }}
{{- end -}}
{{- end }}

{{- define "homeostat.plainHttp" -}}
{{- $hosts := .Values.artifacts.plainHttp -}}
{{- if .Values.registry.enabled -}}
{{- $hosts = append $hosts (include "homeostat.registryHost" .) -}}
{{- end -}}
{{ join "," $hosts }}
{{- end }}

{{- define "homeostat.pullSecrets" -}}
{{- with .Values.images.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "homeostat.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "homeostat.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

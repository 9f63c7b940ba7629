{{- define "penstock.labels" -}}
app.kubernetes.io/name: penstock
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* penstock.selector (list ROOT COMPONENT) */}}
{{- define "penstock.selector" -}}
app.kubernetes.io/name: penstock
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/*
A Deployment and its PodDisruptionBudget. (dict "root" $ "component" NAME "options" VALUES "args" LIST "env" DICT
"probe" BOOL)
*/}}
{{- define "penstock.deployment" -}}
{{- $values := .root.Values }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .root.Release.Name }}-{{ .component }}
  labels:
    {{- include "penstock.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  replicas: {{ .options.replicas }}
  selector:
    matchLabels:
      {{- include "penstock.selector" (list .root .component) | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "penstock.labels" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
      {{- with .options.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      automountServiceAccountToken: false
      # Variables that Kubernetes makes of the names of services would look like settings.
      enableServiceLinks: false
      # 5 s until no more requests come, 30 s for lines under way, and some to spare.
      terminationGracePeriodSeconds: 45
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        fsGroup: 10001
        seccompProfile: {type: RuntimeDefault}
      {{- with $values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "penstock.selector" (list .root .component) | nindent 14 }}
      containers:
        - name: penstock
          image: "{{ $values.image.repository }}:{{ $values.image.tag | default .root.Chart.AppVersion }}"
          imagePullPolicy: {{ $values.image.pullPolicy }}
          args: {{ toJson .args }}
          envFrom:
            - secretRef: {name: {{ required "secret: the name of a Secret with PENSTOCK_DATABASE" $values.secret }}}
          env:
            {{- $s3 := dict "AWS_REGION" $values.s3.region }}
            {{- if $values.s3.endpoint }}{{ $_ := set $s3 "AWS_ENDPOINT_URL" $values.s3.endpoint }}{{ end }}
            {{- $blobs := dict "PENSTOCK_BLOBS" (required "blobs: s3://BUCKET or s3://BUCKET/PREFIX" $values.blobs) }}
            {{- range $name, $value := merge (dict) (.options.env | default dict) .env $values.env $s3 $blobs }}
            - name: {{ $name }}
              value: {{ $value | toString | quote }}
            {{- end }}
          {{- if .probe }}
          ports:
            - {name: http, containerPort: 4080}
          readinessProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 2
          livenessProbe:
            httpGet: {path: /healthz, port: http}
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          lifecycle:
            preStop: {exec: {command: [sleep, "5"]}}
          {{- end }}
          resources:
            {{- toYaml (.options.resources | default $values.workerResources) | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: {drop: [ALL]}
          volumeMounts:
            - {name: data, mountPath: /data}
      volumes:
        - name: data
          emptyDir: {sizeLimit: {{ $values.scratch }}}
      {{- with .options.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .options.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .options.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .root.Release.Name }}-{{ .component }}
  labels:
    {{- include "penstock.labels" .root | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "penstock.selector" (list .root .component) | nindent 6 }}
{{- end }}

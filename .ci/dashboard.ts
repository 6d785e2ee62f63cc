// The type of the dashboard, from Grafana's own types. Stricter where a field is needed here.
import type * as grafana from "@grafana/schema";
import type { Options as StatOptions } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type {
  FieldConfig as GraphFields,
  Options as GraphOptions,
} from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

/** A type as in JSON, where members of enumerations are strings. */
type Json<T> = T extends string
  ? `${T}`
  : T extends (infer Item)[]
    ? Json<Item>[]
    : T extends object
      ? { [Key in keyof T]: Json<T[Key]> }
      : T;

interface Panel<Type extends string, Options, Fields> {
  id: number;
  type: Type;
  title: string;
  description: string;
  gridPos: grafana.GridPos;
  datasource: { type: "prometheus"; uid: "${datasource}" };
  fieldConfig: {
    // A text in place of "No data".
    defaults: Omit<grafana.FieldConfig, "custom"> & { unit: string; noValue: string; custom?: Partial<Fields> };
    overrides: grafana.FieldConfigSource["overrides"];
  };
  options: Partial<Options>;
  targets: { refId: string; expr: string; legendFormat?: string; instant?: boolean; range?: boolean }[];
}
type Stat = Panel<"stat", StatOptions, Record<string, never>>;
type Graph = Panel<"timeseries", GraphOptions, GraphFields>;
type Row = Omit<grafana.RowPanel, "panels"> & { panels: (Stat | Graph)[] };

export type Dashboard = Json<Omit<grafana.Dashboard, "panels"> & { panels: (Stat | Graph | Row)[] }>;
